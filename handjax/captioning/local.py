"""A vision-language model on this machine, through the pipeline of transformers (which needs PyTorch)."""

import threading
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from handjax.captioning.failures import NoAnswer
from handjax.errors import BackendError, WeightsError

MODELS = {
    "llava-onevision": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "smolvlm": "HuggingFaceTB/SmolVLM-256M-Instruct",
}
"""Short names of models on the hub: the paper's, and one that a laptop can run."""
MOST_TOKENS = 400


class LocalModel:
    """Asks a chat model that sees pictures; its answers are the likeliest ones, the same every time."""

    def __init__(self, pipeline: Any):
        """Takes a pipeline for "image-text-to-text"."""
        self._pipeline = pipeline
        self._lock = threading.Lock()

    @classmethod
    def load(cls, name: str) -> "LocalModel":
        """Loads a model, from the hub where this machine does not have it.

        Args:
          name: a key of `MODELS`, a hub id, or a folder.

        Raises:
          BackendError: PyTorch, or what else this model needs, is not installed.
          WeightsError: no such model, or not one that answers on pictures.
        """
        try:
            from transformers import pipeline

            return cls(pipeline("image-text-to-text", model=MODELS.get(name, name), dtype="auto"))
        except ImportError as error:
            reason = " ".join(str(error).split())
            raise BackendError(
                f"--model {name}: {reason[:200]}; install handjax[torch], torchvision and what it names"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise WeightsError(
                f"--model {name}: cannot be loaded ({reason[:200]}); give {', '.join(MODELS)}, a hub id or a folder"
            ) from error

    def __call__(self, prompt: str, image: UInt8[np.ndarray, "height width 3"] | None) -> str:
        """Asks once, about a picture or about the text alone.

        Raises:
          NoAnswer: the answer is empty, or the model failed on this question, such as for want of memory.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if image is not None:
            content.insert(0, {"type": "image", "image": Image.fromarray(image)})
        chat = [{"role": "user", "content": content}]
        options = {"max_new_tokens": MOST_TOKENS, "do_sample": False}
        with self._lock:  # one model, whatever the number of threads
            try:
                answer = self._pipeline(text=chat, return_full_text=False, generate_kwargs=options)[0]["generated_text"]
            except RuntimeError as error:  # PyTorch's, out of memory among them
                raise NoAnswer(" ".join(str(error).split())[:200]) from error
        if not answer.strip():
            raise NoAnswer("an empty answer")
        return answer
