"""moodal: texts, images and recordings in, a sentiment model that you own out."""
