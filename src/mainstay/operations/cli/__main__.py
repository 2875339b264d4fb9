"""``python -m mainstay.operations.cli`` is ``mainstay``, for an interpreter whose scripts are not on the path."""

from mainstay.operations.cli.program import main

if __name__ == "__main__":
    main()
