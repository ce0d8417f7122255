"""python -m moodal.cli, where the script `moodal` is not on the path."""

from moodal.cli import main

if __name__ == "__main__":
    main()
