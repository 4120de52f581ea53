"""MMHMR: from a picture of a hand to its pose tokens, shape and camera, by masked modelling."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from handjax.errors import ConfigError
from handjax.files import atomic_write
from handjax.hand.draw import draw_skeleton
from handjax.hand.mano import load_hand
from handjax.hand.model import HandModel
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.metrics.alignment import aligned_errors
from handjax.preview import from_model_range, sheet
from handjax.recovery.camera import project_to_crop
from handjax.recovery.files import PYTORCH_MODULE, TOKENIZER, RecoveryModel, load_recovery, save_recovery
from handjax.recovery.masking import draw_masks
from handjax.recovery.network import SHAPES, RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.recovery.posing import pose_hands
from handjax.recovery.reading import Fixed, MeshReader, Recovered
from handjax.recovery.tokenizer import Tokenizer, load_tokenizer
from handjax.recovery.vit import ViTConfig, load_vit, with_imagenet_maps
from handjax.recovery.vq_mano import JOINTS
from handjax.training.checkpoints import content_hash
from handjax.training.task import Batch, Term, total

GEOMETRY_SCALE = 48.0
"""The paper's batch, by which sums over it are larger than means (DECISIONS F6)."""
PREVIEWS = 4
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Corruption:
    """What training hides.

    Args:
        most: upper end of τ, of which the share of hidden tokens is the cosine (Table 7).
        all_tokens: whether the cross-entropy also counts tokens that are known, as the paper prints it.
        cue_noise: deviation of the keypoints that the network is given, shares of the crop.
        joint_dropout: share of keypoints that it is not given.
        cue_dropout: share of pictures that come without any.

    Source: DECISIONS F4, F10.
    """

    most: float = 0.7
    all_tokens: bool = False
    cue_noise: float = 0.01
    joint_dropout: float = 0.1
    cue_dropout: float = 0.25


@dataclasses.dataclass(frozen=True)
class MeshRecoveryTask:
    """Masked modelling of pose tokens, with geometry through the expected codes.

    Args:
        network: the transformer.
        tokenizer: VQ-MANO, which stays as it is.
        hand: the hand model that the tokenizer knows.
        weights: of the losses "mask", "rotation", "betas", "joints_3d" and "joints_2d" (DECISIONS F6).
        corruption: what training hides.
        encoder_weights: file of HaMeR's encoder to start from; empty starts at random.
        allow_pickle: whether it may be pickled by PyTorch.
        init_weights: folder of an exported run of the same sizes and tokenizer, to train on from; empty starts anew.

    Source: MMHMR section 3.3, appendix B.
    """

    network: RecoveryNetwork
    tokenizer: Tokenizer
    hand: HandModel
    weights: dict[str, float]
    corruption: Corruption
    encoder_weights: str = ""
    allow_pickle: bool = False
    init_weights: str = ""

    @property
    def loss_weights(self):
        return self.weights

    @property
    def exports(self):
        return {"handjax": self._save, "torch": self._save_with_module}

    def batch_spec(self):
        return fields_of_hands(self.network.config.encoder.image_size)

    def init(self, rng):
        if self.init_weights:
            # where only shapes are asked for, files are read all the same, and what they say is checked
            with jax.ensure_compile_time_eval():
                return self._exported_params(), {}
        params = jax.jit(self.network.init)(rng, *example_inputs(self.network))["params"]
        if self.network.config.encoder.stem == "efficientnet":
            params = {**params, "backbone": with_imagenet_maps(params["backbone"])}
        if self.encoder_weights:
            weights = load_vit(self.encoder_weights, self.network.config.encoder, self.allow_pickle)
            params = {**params, "backbone": weights}
        return params, {}

    @property
    def reader(self) -> MeshReader:
        """The networks."""
        return MeshReader(self.network, self.tokenizer.network)

    def frozen(self):
        return Fixed(self.tokenizer.arrays, self.hand)

    def loss(self, trainable, frozen, state, batch, rng):
        tokens = self.reader.tokenize(frozen, batch["pose"])
        mask_keys, cue_keys = jax.vmap(jax.random.split, out_axes=1)(rng)
        hidden = draw_masks(mask_keys, tokens.shape[1], self.corruption.most) | ~batch["mesh_known"][:, None]
        given = jnp.where(hidden, self.network.config.codes, tokens)
        cue = corrupt_cue(cue_keys, _cue(batch), self.corruption)
        logits, context = self.network.apply({"params": trainable}, batch["image"], given, cue)
        counted = (hidden | self.corruption.all_tokens) & batch["mesh_known"][:, None]
        log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)[..., 0]
        losses = {"mask": total(-log_likelihood, counted)}
        made = self.reader.pose(frozen, expected_codes(logits, tokens, hidden, frozen.tokenizer["codebook"]), context)
        losses |= geometry_losses(made, batch, frozen.hand)
        return losses, state, {"token_right": total(logits.argmax(-1) == tokens, counted)}

    def evaluate(self, trainable, frozen, state, batch, rng):
        """Measures the losses, and decoded hands by FreiHAND's metrics in millimetres, with the 2-D cue and (`_alone`)
        without."""
        terms, _, _ = self.loss(trainable, frozen, state, batch, rng)
        for name, cue in (("", _cue(batch)), ("_alone", jnp.zeros((len(batch["image"]), 21, 3)))):
            made, decoded = self.reader.recover(trainable, frozen, batch["image"], cue, rng[0])
            terms |= {f"{key}{name}": term for key, term in self._measures(frozen, made, batch).items()}
            terms[f"confidence{name}"] = total(decoded.confidence)
        return terms

    def preview(self, trainable, frozen, state, batch, rng):
        """Draws the picture, the keypoints that are known, and those of the hand that was found without them."""
        images = from_model_range(batch["image"][:PREVIEWS])
        made, _ = self.reader.recover(
            trainable, frozen, batch["image"][:PREVIEWS], jnp.zeros((len(images), 21, 3)), rng[0]
        )
        size = images.shape[1]
        found = (project_to_crop(made.posed.keypoints, made.camera) + 0.5) * size
        draw = jax.vmap(lambda points, seen: draw_skeleton(points, size, size, seen))
        truth = draw(batch["keypoints"][:PREVIEWS], batch["keypoints_confidence"][:PREVIEWS])
        return {"recovered": sheet(images, truth, jnp.maximum(0.4 * images, draw(found, jnp.ones(found.shape[:2]))))}

    def _exported_params(self):
        model = load_recovery(Path(self.init_weights))
        if model.network.config != self.network.config:
            raise ConfigError(f"init_weights={self.init_weights}: a network of other sizes; use the recipe it is of")
        if content_hash(model.tokenizer.arrays) != content_hash(self.tokenizer.arrays):
            raise ConfigError(
                f"init_weights={self.init_weights} knows other tokens; set tokenizer to its folder {TOKENIZER}/"
            )
        return jax.tree.map(jnp.asarray, model.params)

    def _save(self, params, state, folder, dtype):
        save_recovery(RecoveryModel(self.network, params, self.tokenizer), folder, dtype)

    def _save_with_module(self, params, state, folder, dtype):
        self._save(params, state, folder, dtype)
        with atomic_write(folder / PYTORCH_MODULE.name) as temporary:
            shutil.copyfile(PYTORCH_MODULE, temporary)

    @jax.default_matmul_precision("highest")
    def _measures(self, frozen, made, batch):
        truth = pose_hands(frozen.hand, axis_angle_to_matrix(batch["pose"]), batch["betas"])
        terms = {}
        for name, part in (("pa_mpjpe_mm", "keypoints"), ("pa_mpvpe_mm", "vertices")):
            far = aligned_errors(getattr(made.posed, part), getattr(truth, part))
            terms[name] = total(1000 * far, batch["mesh_known"])
        places = (project_to_crop(made.posed.keypoints, made.camera) + 0.5) * batch["image"].shape[1]
        far = jnp.linalg.norm(places - batch["keypoints"], axis=-1)
        terms["pck_0.1"] = total(far <= 0.1 * batch["box_side"][:, None], batch["keypoints_weight"] > 0)
        return terms


def fields_of_hands(size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Pictures of hands, `size` pixels wide, and what is known of each (`data_pipelines.loader`)."""

    def of(dtype, *shape):
        return jax.ShapeDtypeStruct(shape, dtype)

    return {
        "image": of(jnp.float32, size, size, 3),
        "pose": of(jnp.float32, JOINTS, 3),
        "betas": of(jnp.float32, SHAPES),
        "mesh_known": of(jnp.bool_),
        "keypoints": of(jnp.float32, 21, 2),
        "keypoints_confidence": of(jnp.float32, 21),
        "keypoints_weight": of(jnp.float32, 21),
        "keypoints_3d": of(jnp.float32, 21, 3),
        "keypoints_3d_known": of(jnp.bool_, 21),
        "box_side": of(jnp.float32),
    }


def expected_codes(
    logits: Float[Array, "batch L K"],
    tokens: Int[Array, "batch L"],
    hidden: Bool[Array, "batch L"],
    codebook: Float[Array, "K D"],
) -> Float[Array, "batch L D"]:
    """z̄ = softmax(L)·CB of hidden tokens, which has a gradient; the codes themselves of known ones (MMHMR 3.3)."""
    return jnp.where(hidden[..., None], jax.nn.softmax(logits) @ codebook, codebook[tokens])


def corrupt_cue(
    keys: Key[Array, " batch"], cue: Float[Array, "batch 21 3"], corruption: Corruption
) -> Float[Array, "batch 21 3"]:
    """Moves keypoints and leaves out some or all (DECISIONS F10)."""

    def corrupt(key, cue):
        noise_key, joint_key, all_key = jax.random.split(key, 3)
        moved = cue.at[:, :2].add(corruption.cue_noise * jax.random.normal(noise_key, (21, 2)))
        kept = jax.random.uniform(joint_key, (21,)) >= corruption.joint_dropout
        kept &= jax.random.uniform(all_key) >= corruption.cue_dropout
        return moved * kept[:, None]

    return jax.vmap(corrupt)(keys, cue)


def geometry_losses(made: Recovered, batch: Batch, hand: HandModel) -> dict[str, Term]:
    """L_MANO, L_3D and L_2D: sums over joints, means over the batch, times the paper's batch (DECISIONS F6).

    L_2D also counts keypoints that cannot be seen, as long as their place is known: under a patch they are what has to
    be guessed. L_3D takes the joints of the mesh where it is known, as rotations and tokens do: other points in space
    of the same record, as MediaPipe's beside the fit to its keypoints, are 15 mm away from them.
    """
    joints = made.posed.keypoints
    truth = pose_hands(hand, axis_angle_to_matrix(batch["pose"]), jnp.asarray(batch["betas"])).keypoints
    known = batch["mesh_known"][:, None]
    in_space = jnp.where(known[..., None], truth - truth[:, :1], batch["keypoints_3d"])
    places = project_to_crop(joints, made.camera)
    errors = {
        "rotation": jnp.square(made.rotations - axis_angle_to_matrix(batch["pose"])).sum((1, 2, 3))
        * batch["mesh_known"],
        "betas": jnp.square(made.betas - batch["betas"]).sum(1) * batch["mesh_known"],
        "joints_3d": _weighted_l1(joints - joints[:, :1], in_space, known | batch["keypoints_3d_known"]),
        "joints_2d": _weighted_l1(places, _cue(batch)[..., :2], batch["keypoints_weight"]),
    }
    return {name: total(GEOMETRY_SCALE * error) for name, error in errors.items()}


def _weighted_l1(ours, theirs, weight) -> Float[Array, " batch"]:
    return (weight[..., None] * jnp.abs(ours - theirs)).sum((1, 2))


def _cue(batch: Batch) -> Float[Array, "batch 21 3"]:
    """Places in the crop from -0.5 to 0.5 and confidence."""
    places = batch["keypoints"] / batch["image"].shape[1] - 0.5
    return jnp.concatenate([places, batch["keypoints_confidence"][..., None]], axis=-1)


def tokenizer_and_hand(config: Any) -> tuple[Tokenizer, HandModel]:
    """Reads what a recipe names by `tokenizer` and `hand_model`.

    Raises:
      ConfigError: no tokenizer is named, or it was trained on another hand model than the recipe or its data have.
      WeightsError: a file cannot be read.
    """
    if not config.tokenizer:
        raise ConfigError(
            "tokenizer is empty; train vq_mano.py, write it by launch.export --to handjax, name its folder"
        )
    tokenizer, hand = load_tokenizer(Path(config.tokenizer)), load_hand(config.hand_model)
    for name, where in ((hand.name, "hand_model"), (config.data.hand_model, "data.hand_model")):
        if tokenizer.hand != name:
            raise ConfigError(
                f"tokenizer={config.tokenizer} knows {tokenizer.hand}, {where} is {name}; use one hand model"
            )
    return tokenizer, hand


def check_heads(part: str, width: int, heads: int) -> None:
    """Makes sure that the heads of a part of a recipe can share its channels.

    Raises:
      ConfigError: they cannot.
    """
    if heads < 1 or width % heads:
        raise ConfigError(f"{part}.heads={heads} cannot share its {width} channels; use a divisor of {width}")


def _check_sizes(encoder: ViTConfig, network: Mapping[str, Any]) -> None:
    check_heads("encoder", encoder.width, encoder.heads)
    check_heads("network", network["features"], network["heads"])
    scales = network["scales"]
    if not scales or any(scale < 1 or scale & (scale - 1) for scale in scales):
        raise ConfigError(f"network.scales={scales} are not powers of 2; use (1, 4) or others of 1, 2, 4, 8, 16")


def make(config: Any) -> MeshRecoveryTask:
    """Makes the task of a recipe with `tokenizer` (folder of an exported one), `encoder` (of `ViTConfig`), `network`
    (of `RecoveryConfig`), `dtype` (of the encoder's computation), `corruption`, `loss`, `hand_model` (path of a MANO
    file, or empty), `encoder_weights`, `allow_pickle` and `init_weights` (folder of an exported run, or empty).

    Raises:
      ConfigError: no tokenizer is named, or it was trained on another hand model; an unknown dtype; a weight decay
        that would shrink EfficientNet-Lite0, which stays as it is; heads that cannot share the channels, scales that
        are no powers of 2.
      WeightsError: a file cannot be read.
    """
    if config.dtype not in DTYPES:
        raise ConfigError(f"dtype={config.dtype!r} is unknown; use one of {DTYPES}")
    encoder = ViTConfig(**config.encoder)
    if encoder.stem == "efficientnet" and config.optim.weight_decay:
        raise ConfigError(f"optim.weight_decay={config.optim.weight_decay} would shrink EfficientNet-Lite0; use 0")
    tokenizer, hand = tokenizer_and_hand(config)
    fields = dict(config.network) | {"scales": tuple(config.network.scales)}  # a run's config.json has a list
    _check_sizes(encoder, fields)
    tokens, codes = tokenizer.network.tokens, len(tokenizer.codebook)
    sizes = RecoveryConfig(tokens=tokens, codes=codes, encoder=encoder, **fields)
    network = RecoveryNetwork(sizes, jnp.dtype(config.dtype))
    return MeshRecoveryTask(
        network,
        tokenizer,
        hand,
        dict(config.loss),
        Corruption(**config.corruption),
        config.encoder_weights,
        config.allow_pickle,
        config.get("init_weights", ""),  # runs of older recipes lack it
    )
