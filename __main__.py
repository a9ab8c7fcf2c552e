"""`python -m speechlm`, and `accelerate launch -m speechlm`: the same commands as `speechlm`."""

from .cli import main

if __name__ == "__main__":
    main()
