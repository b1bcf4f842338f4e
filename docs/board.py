"""Take the last picture of a held-out case out of a training's event files, as TensorBoard shows it.

python docs/board.py runs/watch/train/fold0 docs/images/board.png
"""

import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    """Write the first case's latest picture in the training's folder into the file, both given."""
    run, path = sys.argv[1], Path(sys.argv[2])
    events = EventAccumulator(run).Reload()
    first = sorted(events.Tags()["images"])[0]
    latest = events.Images(first)[-1]
    path.write_bytes(latest.encoded_image_string)
    print(f"{path}: {first} after step {latest.step}")


if __name__ == "__main__":
    main()
