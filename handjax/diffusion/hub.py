"""Models on the Hugging Face hub: downloads the files that are read, into the hub's own cache."""

import re
from pathlib import Path

from handjax.diffusion.folder import INDEX, SCHEDULE, TOKENIZER, WEIGHTS, part_folder
from handjax.errors import WeightsError
from handjax.weights.files import find_weights

SETTINGS = (INDEX, SCHEDULE, f"{TOKENIZER}/*", "config.json", *(f"{part}/config.json" for part in WEIGHTS))
# Weights in full precision, and in half for models that have no others.
ENDINGS = (
    (".safetensors", ".safetensors.index.json", "-*.safetensors"),
    (".fp16.safetensors", ".safetensors.index.fp16.json", ".fp16-*.safetensors"),
)


def is_repository(name: str) -> bool:
    """Whether a name could be one of the hub's: `ORGANISATION/MODEL`."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def download(name: str) -> Path:
    """Downloads a model in the layout of diffusers, unless the cache has it.

    Args:
        name: of the repository, `ORGANISATION/MODEL`; a whole model or an autoencoder alone.

    Returns:
        The folder in the cache.

    Raises:
        WeightsError: there is no such model, or no way to the hub.
    """
    # Imported here because it takes a second to import.
    from huggingface_hub import snapshot_download

    stems = [f"{part}/{stem}" for part, stems in WEIGHTS.items() for stem in stems] + list(WEIGHTS["vae"])
    try:
        for endings in ENDINGS:
            wanted = [*SETTINGS, *(stem + ending for stem in stems for ending in endings)]
            folder = Path(snapshot_download(name, allow_patterns=wanted))
            if find_weights(part_folder(folder, "vae"), *WEIGHTS["vae"]).is_file():
                break
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"{name}: no such folder here, and the hub gives none ({reason}); with a network, "
            f"`hf download {name} --local-dir {name}` gets it"
        ) from error
    return folder
