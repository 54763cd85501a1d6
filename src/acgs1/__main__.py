"""`python -m acgs1` is `acgs1`."""

from acgs1.cli.main import main

if __name__ == "__main__":
    main()
