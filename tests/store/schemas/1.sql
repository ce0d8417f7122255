-- Schema 1 as moodal released it, with rows. Never change this file.
CREATE TABLE schema_version (version INTEGER PRIMARY KEY, at DOUBLE PRECISION NOT NULL);
CREATE TABLE predictions (
    id TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, model TEXT NOT NULL,
    source TEXT NOT NULL, caller TEXT NOT NULL, label TEXT, value DOUBLE PRECISION,
    said TEXT, confidence DOUBLE PRECISION NOT NULL, probabilities TEXT NOT NULL,
    modalities TEXT NOT NULL, contributions TEXT NOT NULL, abstain BOOLEAN NOT NULL,
    reason TEXT NOT NULL, language TEXT NOT NULL, measures TEXT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL, inputs TEXT NOT NULL);
CREATE INDEX predictions_at ON predictions (at, id);
CREATE TABLE feedback (
    id TEXT NOT NULL PRIMARY KEY, prediction TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
    label TEXT NOT NULL, comment TEXT NOT NULL, caller TEXT NOT NULL,
    judge TEXT NOT NULL);
CREATE INDEX feedback_prediction ON feedback (prediction);
CREATE INDEX feedback_at ON feedback (at, id);
CREATE TABLE models (
    id TEXT NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, change TEXT NOT NULL,
    model TEXT NOT NULL, name TEXT NOT NULL, numbers TEXT NOT NULL);
CREATE INDEX models_at ON models (at, id);
CREATE TABLE alerts (
    id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, raised DOUBLE PRECISION NOT NULL,
    cleared DOUBLE PRECISION, value DOUBLE PRECISION NOT NULL,
    bound DOUBLE PRECISION NOT NULL, sentence TEXT NOT NULL);
INSERT INTO schema_version VALUES (1, 1700000000.0);
INSERT INTO predictions VALUES
    ('00000000000000000000000000000001', 1700000001.0, '0123456789ab', 'http', '', 'positive', NULL,
     NULL, 0.75, '{"negative":0.25,"positive":0.75}', 'text', '{"text":0.25}', false, '', 'zh',
     '{"text.length":3.0}', 0.002, '{}'),
    ('00000000000000000000000000000002', 1700000002.5, '0123456789ab', 'batch', 'shop', 'negative',
     NULL, NULL, 0.5, '{"negative":0.5,"positive":0.5}', 'text+image',
     '{"text":0.5,"image":-0.25}', true, 'unsure', 'en', '{"text.length":9.0}', 0.004,
     '{"text":"aa"}'),
    ('00000000000000000000000000000003', 1700000003.0, '0123456789ab', 'http', '', NULL, 1.25,
     NULL, 0.0, '{}', 'audio', '{"audio":0.125}', false, '', '', '{}', 0.008, '{}');
INSERT INTO feedback VALUES
    ('0000000000000000000000000000000a', '00000000000000000000000000000001', 1700000010.0,
     'negative', '反话', '', 'user'),
    ('0000000000000000000000000000000b', '00000000000000000000000000000002', 1700000011.0,
     'positive', '', '', 'user'),
    ('0000000000000000000000000000000c', '00000000000000000000000000000002', 1700000012.0,
     'negative', 'it was right after all', '', 'user'),
    ('0000000000000000000000000000000d', '00000000000000000000000000000003', 1700000013.0,
     '1.25', '', '', 'user');
INSERT INTO models VALUES
    ('0000000000000000000000000000000e', 1700000000.0, 'served', '0123456789ab', 'base', '{}');
INSERT INTO alerts VALUES
    ('0000000000000000000000000000000f', 'drift:text.length', 1700000020.0, NULL, 0.5, 0.25,
     'Texts are longer than they were.');
