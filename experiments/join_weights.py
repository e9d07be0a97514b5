"""Put the weight files of a short run together: one safetensors file with its card.

python experiments/join_weights.py OUT -o DIR
"""

import argparse
from pathlib import Path

from roundview.train.shards import join_shards

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    print(f"wrote {join_shards(options.folder, options.output).path}")
