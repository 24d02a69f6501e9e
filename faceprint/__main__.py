"""`python -m faceprint`, the spelling that torchrun uses."""

from faceprint.cli import main

main()
