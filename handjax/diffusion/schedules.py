"""How noise grows with the timestep: what training adds and samplers remove."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.errors import WeightsError

# Values of diffusers' keys that change the arithmetic; Stable Diffusion 1.x and 2.x have these.
FIXED = {"clip_sample": False, "thresholding": False}
CHOICES = {
    "beta_schedule": ("scaled_linear", "linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
}
# ᾱ that samplers in σ take a terminal timestep without signal to have, as in diffusers, because its σ is infinite.
LEAST_ALPHA_CUMPROD = 2.0**-24


class NoiseLevel(NamedTuple):
    """A point between noise and picture, where latents are z = (x0 + σ·ε) / √(1 + σ²).

    Attributes:
        timestep: what the network is told.
        sigma: noise over signal.
    """

    timestep: Float[Array, ""]
    sigma: Float[Array, ""]


def scales(sigma: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Factors of picture and noise in variance-preserving latents; σ may be 0 or infinite."""
    return 1 / jnp.sqrt(1 + jnp.square(sigma)), 1 / jnp.sqrt(1 + 1 / jnp.square(sigma))


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
        rescale_betas_zero_snr: whether √ᾱ is shifted and scaled so that the last timestep is noise alone.

    Source:
        Ho et al. 2020, Eq. 4; Salimans and Ho 2022, appendix D (velocity); Lin et al. 2024, algorithm 1 (zero
        terminal signal); names as in diffusers.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    rescale_betas_zero_snr: bool = False

    def __post_init__(self):
        for key, supported in CHOICES.items():
            if getattr(self, key) not in supported:
                raise WeightsError(
                    f"scheduler config: {key}={getattr(self, key)!r} unsupported; use one of {supported}"
                )
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise WeightsError(
                "scheduler config: rescale_betas_zero_snr needs prediction_type 'v_prediction', because noise alone "
                "tells nothing of the picture; set one of the two"
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
        alphas_cumprod = np.cumprod(1 - betas**power)
        if self.rescale_betas_zero_snr:
            signal = np.sqrt(alphas_cumprod)
            signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
            alphas_cumprod = signal**2
        return alphas_cumprod.astype(np.float32)

    @functools.cached_property
    def sigmas(self) -> np.ndarray:
        """Noise over signal, √((1 - ᾱ_t) / ᾱ_t), for every timestep, finite, float32."""
        alphas_cumprod = np.maximum(self.alphas_cumprod, np.float32(LEAST_ALPHA_CUMPROD))
        return np.sqrt((1 - alphas_cumprod) / alphas_cumprod)

    def exact_sigma_at(self, timesteps: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
        """Noise over signal at whole timesteps, infinite where there is no signal; those out of range are the ends."""
        places = np.clip(timesteps.astype(int), 0, self.num_train_timesteps - 1)
        return np.where(self.alphas_cumprod[places] > 0, self.sigmas[places], np.float32(np.inf))

    @property
    def final_sigma(self) -> float:
        """Noise over signal where DDIM ends."""
        return 0.0 if self.set_alpha_to_one else float(self.sigmas[0])

    def sigma_at(self, timesteps: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
        """Noise over signal at fractional timesteps, linear in between."""
        return np.interp(timesteps, np.arange(self.num_train_timesteps), self.sigmas).astype(np.float32)

    def signal_and_noise(
        self, timesteps: Float[Array, " batch"]
    ) -> tuple[Float[Array, "batch 1 1 1"], Float[Array, "batch 1 1 1"]]:
        """√ᾱ_t and √(1 - ᾱ_t) of whole timesteps, shaped to multiply latents."""
        alpha = jnp.asarray(self.alphas_cumprod)[timesteps.astype(jnp.int32)][:, None, None, None]
        return jnp.sqrt(alpha), jnp.sqrt(1 - alpha)

    def add_noise(
        self,
        x0: Float[Array, "batch height width channels"],
        noise: Float[Array, "batch height width channels"],
        timesteps: Float[Array, " batch"],
    ) -> Float[Array, "batch height width channels"]:
        """Noises clean latents to `timesteps`."""
        signal, sigma = self.signal_and_noise(timesteps)
        return signal * x0 + sigma * noise

    def training_target(
        self,
        x0: Float[Array, "batch height width channels"],
        noise: Float[Array, "batch height width channels"],
        timesteps: Float[Array, " batch"],
    ) -> Float[Array, "batch height width channels"]:
        """What the network should predict."""
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self.signal_and_noise(timesteps)
        return signal * noise - sigma * x0

    def min_snr_weight(self, timesteps: Float[Array, " batch"], gamma: float = 5.0) -> Float[Array, " batch"]:
        """Factor of each example's loss: that of the signal-to-noise ratio, capped at `gamma`, on x0.

        Args:
            timesteps: whole.
            gamma: the cap.

        Source:
            Hang et al. 2023, Eq. 8 (noise) and section 3.4 (velocity).
        """
        snr = 1 / jnp.square(jnp.asarray(self.sigmas)[timesteps.astype(jnp.int32)])
        return jnp.minimum(snr, gamma) / (snr if self.prediction_type == "epsilon" else snr + 1)

    def to_x0(
        self,
        prediction: Float[Array, "batch height width channels"],
        z: Float[Array, "batch height width channels"],
        level: NoiseLevel,
    ) -> Float[Array, "batch height width channels"]:
        """The clean latents by the network's prediction, whichever it predicts."""
        if self.prediction_type == "epsilon":
            return jnp.sqrt(1 + jnp.square(level.sigma)) * z - level.sigma * prediction
        signal, noise = scales(level.sigma)
        return signal * z - noise * prediction

    def sampling_timesteps(self, steps: int, *, rounded: bool = True, with_end: bool = False) -> np.ndarray:
        """The timesteps that a sampler visits, descending, float32.

        Args:
            steps: of the sampler.
            rounded: whether "linspace" gives whole timesteps (Euler's samplers in diffusers have fractions).
            with_end: whether "leading" and "linspace" reckon with one step more, which is left out: the end at σ = 0
                (DPM-Solver in diffusers).

        Source:
            Lin et al. 2024, table 2; rounding as in diffusers.
        """
        total, points = self.num_train_timesteps, steps + with_end
        timesteps: np.ndarray
        if self.timestep_spacing == "leading":
            timesteps = np.arange(points)[::-1] * (total // points) + self.steps_offset
        elif self.timestep_spacing == "trailing":
            timesteps = np.round(np.arange(total, 0, -total / steps)) - 1
        else:
            timesteps = np.linspace(0, total - 1, points)[::-1]
            timesteps = np.round(timesteps) if rounded else timesteps
        return timesteps[:steps].astype(np.float32)
