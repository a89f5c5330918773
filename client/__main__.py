"""`python -m client` in the repository, `python -m magicvideo_client` where it is installed: the command line."""

from .cli import main

if __name__ == "__main__":
    main()
