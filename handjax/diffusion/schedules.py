"""How noise grows with the timestep: what training adds and samplers remove."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.errors import WeightsError

# Values of diffusers' keys that change the arithmetic; Stable Diffusion 1.x and 2.x have these.
FIXED = {"clip_sample": False, "thresholding": False, "rescale_betas_zero_snr": False}
CHOICES = {
    "beta_schedule": ("scaled_linear", "linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
}


@dataclasses.dataclass(frozen=True)
class NoiseSchedule:
    """A variance-preserving schedule: z_t = √ᾱ_t·x0 + √(1 - ᾱ_t)·noise.

    Args:
        num_train_timesteps: timesteps are 0 to this, exclusive.
        beta_start: variance of the first step's noise.
        beta_end: variance of the last step's noise.
        beta_schedule: "linear" in β or "scaled_linear", linear in √β.
        prediction_type: what the network predicts, "epsilon" (the noise) or "v_prediction" (the velocity).
        timestep_spacing: how a sampler with fewer steps picks its timesteps.
        steps_offset: added to "leading" timesteps.
        set_alpha_to_one: whether the last step arrives at ᾱ = 1 or at ᾱ_0.

    Source:
        Ho et al. 2020, Eq. 4; Salimans and Ho 2022, appendix D (velocity); names as in diffusers.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False

    def __post_init__(self):
        for key, supported in CHOICES.items():
            if getattr(self, key) not in supported:
                raise WeightsError(
                    f"scheduler config: {key}={getattr(self, key)!r} unsupported; use one of {supported}"
                )

    @classmethod
    def from_diffusers(cls, document: dict[str, Any]) -> "NoiseSchedule":
        """Reads scheduler/scheduler_config.json of any of diffusers' schedulers, whose noise is the same.

        Raises:
            WeightsError: it describes another kind of noise.
        """
        for key, value in FIXED.items():
            if document.get(key, value) != value:
                raise WeightsError(f"scheduler config: {key}={document[key]!r} unsupported; set it to {value!r}")
        if document.get("trained_betas") is not None:
            raise WeightsError("scheduler config: trained_betas unsupported; use beta_start and beta_end")
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in document.items() if key in names})

    def to_diffusers(self) -> dict[str, Any]:
        """Writes scheduler/scheduler_config.json, for diffusers' DDIMScheduler."""
        return {"_class_name": "DDIMScheduler", **dataclasses.asdict(self), **FIXED}

    @functools.cached_property
    def alphas_cumprod(self) -> np.ndarray:
        """ᾱ_t for every timestep, float32."""
        power = {"linear": 1, "scaled_linear": 2}[self.beta_schedule]
        betas = np.linspace(self.beta_start ** (1 / power), self.beta_end ** (1 / power), self.num_train_timesteps)
        return np.cumprod(1 - betas**power).astype(np.float32)

    @property
    def final_alpha_cumprod(self) -> float:
        """ᾱ where sampling ends."""
        return 1.0 if self.set_alpha_to_one else float(self.alphas_cumprod[0])

    def alpha_cumprod_at(self, timesteps: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        """ᾱ at float timesteps; that of sampling's end before timestep 0."""
        index = jnp.maximum(timesteps, 0).astype(jnp.int32)
        return jnp.where(timesteps < 0, self.final_alpha_cumprod, jnp.asarray(self.alphas_cumprod)[index])

    def signal_and_noise(
        self, timesteps: Float[Array, "*batch"]
    ) -> tuple[Float[Array, "*batch 1 1 1"], Float[Array, "*batch 1 1 1"]]:
        """√ᾱ_t and √(1 - ᾱ_t), shaped to multiply latents."""
        alpha = self.alpha_cumprod_at(timesteps)[..., None, None, None]
        return jnp.sqrt(alpha), jnp.sqrt(1 - alpha)

    def add_noise(
        self,
        x0: Float[Array, "batch height width channels"],
        noise: Float[Array, "batch height width channels"],
        timesteps: Float[Array, "batch"],
    ) -> Float[Array, "batch height width channels"]:
        """Noises clean latents to `timesteps`."""
        signal, sigma = self.signal_and_noise(timesteps)
        return signal * x0 + sigma * noise

    def training_target(
        self,
        x0: Float[Array, "batch height width channels"],
        noise: Float[Array, "batch height width channels"],
        timesteps: Float[Array, "batch"],
    ) -> Float[Array, "batch height width channels"]:
        """What the network should predict."""
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self.signal_and_noise(timesteps)
        return signal * noise - sigma * x0

    def to_epsilon(
        self,
        prediction: Float[Array, "batch height width channels"],
        z: Float[Array, "batch height width channels"],
        timesteps: Float[Array, "*batch"],
    ) -> Float[Array, "batch height width channels"]:
        """The noise in `z` by the network's prediction, whichever it predicts."""
        if self.prediction_type == "epsilon":
            return prediction
        signal, sigma = self.signal_and_noise(timesteps)
        return signal * prediction + sigma * z

    def to_x0(
        self,
        epsilon: Float[Array, "batch height width channels"],
        z: Float[Array, "batch height width channels"],
        timesteps: Float[Array, "*batch"],
    ) -> Float[Array, "batch height width channels"]:
        """The clean latents that remain when `epsilon` is taken out of `z`."""
        signal, sigma = self.signal_and_noise(timesteps)
        return (z - sigma * epsilon) / signal

    def sampling_timesteps(self, steps: int) -> np.ndarray:
        """The timesteps that a sampler of `steps` steps visits, descending, float32 (rounding as in diffusers)."""
        total = self.num_train_timesteps
        timesteps: np.ndarray
        if self.timestep_spacing == "leading":
            timesteps = np.arange(steps)[::-1] * (total // steps) + self.steps_offset
        elif self.timestep_spacing == "trailing":
            timesteps = np.round(np.arange(total, 0, -total / steps)) - 1
        else:
            timesteps = np.round(np.linspace(0, total - 1, steps))[::-1]
        return timesteps.astype(np.float32)
