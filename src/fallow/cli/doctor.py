"""`fallow doctor`: is everything there that fallow needs, and what does this machine offer?"""

from dataclasses import asdict, dataclass

from fallow.cli.json_text import as_json

MARKS = {"ok": "ok  ", "note": "note", "broken": "FAIL"}


@dataclass(frozen=True, kw_only=True)
class Args:
    """Check the installation and the machine. Exits with 1 when something required is broken.

    Examples:
      fallow doctor
      fallow doctor --json
    """

    json: bool = False
    """Print the checks as a JSON list."""


def run(args: Args) -> int:
    """Do all checks and print them."""
    from fallow.cli.checks import all_checks

    checks = all_checks()
    broken = [check for check in checks if check.state == "broken"]
    if args.json:
        print(as_json([asdict(check) for check in checks]))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{MARKS[check.state]}  {check.name:<{width}}  {check.text}")
        print("" if not broken else f"\n{len(broken)} broken: {', '.join(check.name for check in broken)}.", end="\n")
    return 1 if broken else 0
