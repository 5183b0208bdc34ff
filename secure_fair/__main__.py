"""`python -m secure_fair` is `secure-fair`."""

from __future__ import annotations

from secure_fair.cli.main import main

if __name__ == "__main__":
    main()
