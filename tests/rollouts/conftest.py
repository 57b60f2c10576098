"""Makes `tiny_world` importable by its plain name, in this process and in the workers it spawns."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
