"""The base model: Chinese and English, text, pictures and speech, three labels."""
