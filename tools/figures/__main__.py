"""Write every drawing."""

from pathlib import Path

from tools.figures.drawings import DRAWINGS

FOLDER = Path(__file__).parents[2] / "docs" / "figures"

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")
