#!/usr/bin/env bash
# The whole way once, on a toy set: make data, check it, train, evaluate, predict.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf demo/data demo/model demo/report demo/predictions.jsonl
run() { printf '\n$ %s\n' "$*"; "$@"; }

run moodal data toy demo/data --rows 600
run moodal data check demo/data/train.csv --against demo/data/test.csv
run moodal train demo/data/train.csv --valid demo/data/dev.csv --out demo/model \
    --config examples/demo.yaml
run moodal evaluate demo/data/test.csv --model demo/model --out demo/report
run moodal predict --model demo/model --text "我觉得这部电影令人失望"
run moodal predict --model demo/model --text "the film was not bad" --json
run moodal predict demo/data/test.csv --model demo/model --out demo/predictions.jsonl
run moodal info demo/model

printf '\nMade in ./demo: data, a model, report/report.html (open it in a browser), predictions.jsonl\n'
