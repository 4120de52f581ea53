"""Mesh recovery (MMHMR) in PyTorch: reads what handjax exports, needs torch and safetensors only.

    model = MMHMR.from_folder("exported")
    found = model.recover(images, cue)

`images` are square crops of right hands, [batch, 3, size, size] in [-1, 1]. `found` has rotations, shape and camera of
the hand model, MANO's if the model was trained with it.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

KEYPOINTS, JOINTS, SHAPES = 21, 16, 10
CUT_SHARE = 1 / 8
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN_CAMERA = (9.0, 0.0, 0.06)
# Keypoint, in OpenPose's order, at each of MANO's 16 joints.
KEYPOINT_OF_JOINT = (0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3)
# EfficientNet-Lite0 up to a 16th of the picture: channels, kernel size and stride of each block.
LITE_BLOCKS = (
    *((24, 3, 2), (24, 3, 1), (40, 5, 2), (40, 5, 1)),
    *((80, 3, 2), (80, 3, 1), (80, 3, 1), (112, 5, 1), (112, 5, 1), (112, 5, 1)),
)
DILATIONS = (9, 3, 1)


class Recovered(NamedTuple):
    """Rotation matrices [batch, 16, 3, 3], shape [batch, 10], camera [batch, 3] and confidence of tokens [batch, L]."""

    rotations: torch.Tensor
    betas: torch.Tensor
    camera: torch.Tensor
    confidence: torch.Tensor


def layer_norm(width):
    return nn.LayerNorm(width, eps=1e-6)


class SelfAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class VisionBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = layer_norm(width), layer_norm(width)
        self.attn = SelfAttention(width, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(x))))


class Patches(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, 16, 16, padding=2)

    def forward(self, pixels):
        mean, deviation = (pixels.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
        return self.proj((pixels / 2 + 0.5 - mean) / deviation).permute(0, 2, 3, 1)


class SameConv(nn.Conv2d):
    """Pads as TensorFlow does, at the right and lower edge first."""

    def forward(self, x):
        pads = []
        for extent, size, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


class Depthwise(SameConv):
    def __init__(self, width, size, stride=1):
        super().__init__(width, width, size, stride, groups=width)


class InvertedResidual(nn.Module):
    def __init__(self, width, out, size, stride):
        super().__init__()
        self.Dense = nn.ModuleList([nn.Linear(width, 6 * width), nn.Linear(6 * width, out)])
        self.DepthwiseConv = nn.ModuleList([Depthwise(6 * width, size, stride)])

    def forward(self, x):
        y = functional.relu6(self.Dense[0](x)).permute(0, 3, 1, 2)
        y = self.Dense[1](functional.relu6(self.DepthwiseConv[0](y)).permute(0, 2, 3, 1))
        return x + y if x.shape == y.shape else y


class Lite0(nn.Module):
    """Maps of an 8th and a 16th of the picture, channels last."""

    def __init__(self):
        super().__init__()
        self.stem, self.first_depthwise = SameConv(3, 32, 3, 2), Depthwise(32, 3)
        self.first_project = nn.Linear(32, 16)
        widths = [16] + [out for out, _, _ in LITE_BLOCKS]
        blocks = (InvertedResidual(width, *block) for width, block in zip(widths, LITE_BLOCKS, strict=False))
        self.block = nn.ModuleDict({str(number): block for number, block in enumerate(blocks, 1)})

    def forward(self, pixels):
        x = functional.relu6(self.first_depthwise(functional.relu6(self.stem(pixels))))
        x = self.first_project(x.permute(0, 2, 3, 1))
        maps = []
        for number, block in self.block.items():
            x = block(x)
            maps += [x] if number in ("4", "10") else []
        return maps


class Maps(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.efficientnet = Lite0()
        self.norm, self.proj = layer_norm(272), nn.Linear(272, width)

    def forward(self, pixels):
        fine, coarse = self.efficientnet((127.5 * pixels + 0.5) / 128)
        fine = fine.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3).flatten(3)
        return self.proj(self.norm(torch.cat([fine, coarse], dim=-1)))


class Backbone(nn.Module):
    def __init__(self, width, depth, heads, stem):
        super().__init__()
        self.patch_embed = Patches(width) if stem == "patches" else Maps(width)
        self.pos_embed = nn.Parameter(torch.zeros(1, 193 if stem == "patches" else 49, width))
        self.blocks = nn.ModuleList(VisionBlock(width, heads) for _ in range(depth))
        self.last_norm = layer_norm(width)

    def forward(self, images):
        cut = round(CUT_SHARE * images.shape[-1])
        x = self.patch_embed(images[..., cut:-cut])
        shape = x.shape
        x = x.flatten(1, 2) + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x).reshape(shape)


class Upsampler(nn.Module):
    def __init__(self, width, features, scale):
        super().__init__()
        self.up, self.up_norm = nn.ModuleList(), nn.ModuleDict()
        for number in range(round(math.log2(scale))):
            if number:
                self.up_norm[str(number)] = layer_norm(width)
            wider, width = width, max(width // 2, features)
            self.up.append(nn.ConvTranspose2d(wider, width, 2, 2))
        self.project, self.norm = nn.Linear(width, features), layer_norm(features)

    def forward(self, x):
        for number, up in enumerate(self.up):
            if number:
                x = functional.gelu(self.up_norm[str(number)](x))
            x = up(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm(self.project(x))


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context):
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out[0](functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class ShapeHead(nn.Module):
    def __init__(self, features, heads, layers):
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1, 1, features)) if layers else None
        self.attention = nn.ModuleList(CrossAttention(features, heads) for _ in range(layers))
        self.norm1, self.norm2 = (nn.ModuleList(layer_norm(features) for _ in range(layers)) for _ in range(2))
        self.wide = nn.ModuleList(nn.Linear(features, 4 * features) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Linear(4 * features, features) for _ in range(layers))
        self.betas, self.camera = nn.Linear(features, SHAPES), nn.Linear(features, 3)

    def forward(self, tokens):
        x = tokens.mean(dim=1, keepdim=True) if self.start is None else self.start.expand(len(tokens), -1, -1)
        parts = zip(self.attention, self.norm1, self.norm2, self.wide, self.narrow, strict=True)
        for attention, norm1, norm2, wide, narrow in parts:
            x = x + attention(norm1(x), tokens)
            x = x + narrow(functional.gelu(wide(norm2(x))))
        return self.betas(x[:, 0]), self.camera(x[:, 0]) + x.new_tensor(MEAN_CAMERA)


class GraphConvolution(nn.Module):
    def __init__(self, nodes, features):
        super().__init__()
        self.adjacency = nn.Parameter(torch.zeros(nodes, nodes))
        self.weight = nn.Linear(features, features, bias=False)

    def forward(self, x):
        return self.weight(torch.softmax(self.adjacency, dim=-1) @ x)


class SqueezeExcitation(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.squeeze, self.excite = nn.Linear(features, features // 4), nn.Linear(features // 4, features)

    def forward(self, x):
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean(dim=1)))))[:, None]


class GraphBlock(nn.Module):
    def __init__(self, nodes, features, heads):
        super().__init__()
        self.graph = GraphConvolution(nodes, features)
        self.norm1, self.norm2 = layer_norm(features), layer_norm(features)
        self.attention, self.conv = SelfAttention(features, heads), nn.Linear(features, features)
        self.se = SqueezeExcitation(features)

    def forward(self, x):
        refined = self.graph(x)
        normed = self.norm1(refined)
        return self.se(self.norm2(self.attention(normed) + self.conv(normed) + refined))


class DeformableAttention(nn.Module):
    def __init__(self, features, heads, levels, points):
        super().__init__()
        self.shape = heads, levels, points
        count = heads * levels * points
        self.value_proj, self.output_proj = nn.Linear(features, features), nn.Linear(features, features)
        self.sampling_offsets, self.attention_weights = nn.Linear(features, 2 * count), nn.Linear(features, count)

    def values(self, maps):
        """Per level [batch·heads, dim, height, width]."""
        heads = self.shape[0]
        projected = (self.value_proj(x).unflatten(-1, (heads, -1)).permute(0, 3, 4, 1, 2) for x in maps)
        return [x.flatten(0, 1).contiguous() for x in projected]

    def forward(self, queries, references, values):
        heads, levels, points = self.shape
        batch, count, _ = queries.shape
        offsets = self.sampling_offsets(queries).reshape(batch, count, heads, levels, points, 2)
        weights = self.attention_weights(queries).reshape(batch, count, heads, levels * points).softmax(dim=-1)
        samples = []
        for level, value in enumerate(values):
            size = offsets.new_tensor(value.shape[:1:-1])
            places = references[:, :, None, None] + offsets[:, :, :, level] / size
            grid = (2 * places - 1).transpose(1, 2).flatten(0, 1)
            samples.append(functional.grid_sample(value, grid, align_corners=False))
        taken = torch.cat(samples, dim=-1).unflatten(0, (batch, heads))  # batch, head, dim, query, levels x points
        gathered = torch.einsum("bqhk,bhdqk->bqhd", weights, taken)
        return self.output_proj(gathered.flatten(2))


class SynthesiserLayer(nn.Module):
    def __init__(self, features, heads, levels, points):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (layer_norm(features) for _ in range(3))
        self.self_attention = SelfAttention(features, heads)
        self.cross_attention = DeformableAttention(features, heads, levels, points)
        self.wide, self.narrow = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def forward(self, x, references, values):
        x = x + self.self_attention(self.norm1(x))
        x = x + self.cross_attention(self.norm2(x), references, values)
        return x + self.narrow(functional.gelu(self.wide(self.norm3(x))))


class PoseDecoder:
    """VQ-MANO's decoder, from codes to rotations; its weights are in Flax's names and layouts.

    Args:
        config: the tokenizer's config.json.
        tensors: its vq_mano.safetensors.
    """

    def __init__(self, config, tensors):
        self.config, self.tensors = config, {name: value.float() for name, value in tensors.items()}

    def _conv(self, x, name, **options):
        weight, bias = (self.tensors[f"decoder.{name}.{part}"] for part in ("kernel", "bias"))
        return functional.conv1d(x, weight.permute(2, 1, 0), bias, **options)

    def __call__(self, codes):
        """Rotations [batch, 16, 3, 3] of codes [batch, L, D]."""
        x = codes.transpose(1, 2)
        x = torch.relu(self._conv(x, "Conv_0", padding=1))
        number = 0
        for _ in range(self.config["blocks"]):
            for dilation in DILATIONS:
                name = f"ResidualBlock_{number}"
                h = self._conv(torch.relu(x), f"{name}.Conv_0", padding=dilation, dilation=dilation)
                x, number = x + self._conv(torch.relu(h), f"{name}.Conv_1"), number + 1
        halvings = round(math.log2(self.config["tokens"] / JOINTS))
        for step in range(1, halvings + 1):
            x = self._conv(x, f"Conv_{step}", stride=2, padding=1)
        x = torch.relu(self._conv(x, f"Conv_{halvings + 1}", padding=1))
        six = self._conv(x, f"Conv_{halvings + 2}", padding=1).transpose(1, 2)
        first = functional.normalize(six[..., :3], dim=-1)
        second = functional.normalize(six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first, dim=-1)
        return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


class MMHMR(nn.Module):
    """The masked transformer.

    Args:
        config: the document config.json.
    """

    def __init__(self, config):
        super().__init__()
        self.config, self.decoder = config, None
        features, heads, tokens = config["features"], config["heads"], config["tokens"]
        encoder, scales = config["encoder"], config["scales"]
        self.backbone = Backbone(**encoder)
        self.pyramid = nn.ModuleList(Upsampler(encoder["width"], features, scale) for scale in scales)
        self.shape_head = ShapeHead(features, heads, config["head_layers"])
        self.head_map = nn.Linear(encoder["width"], features)
        self.token_embedding = nn.Embedding(config["codes"] + 1, features)
        self.token_places = nn.Parameter(torch.zeros(tokens, features))
        self.cue_places = nn.Parameter(torch.zeros(KEYPOINTS, features))
        self.cue_projection = nn.Linear(3, features)
        nodes = tokens + KEYPOINTS
        self.graph = nn.ModuleList(GraphBlock(nodes, features, heads) for _ in range(config["graph_blocks"]))
        self.references = nn.Linear(features, 2)
        self.layers = nn.ModuleList(
            SynthesiserLayer(features, heads, len(scales), config["points"]) for _ in range(config["layers"])
        )
        self.norm, self.logits = layer_norm(features), nn.Linear(features, config["codes"])

    @classmethod
    def from_folder(cls, folder):
        """Reads config.json, mmhmr.safetensors and tokenizer/."""
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text())
        model = cls(config)
        model.load_state_dict({name: value.float() for name, value in load_file(folder / "mmhmr.safetensors").items()})
        tokenizer = folder / "tokenizer"
        settings = json.loads((tokenizer / "config.json").read_text())
        model.decoder = PoseDecoder(settings, load_file(tokenizer / "vq_mano.safetensors"))
        return model.eval()

    def encode(self, images):
        """What of pictures stays the same while tokens are decoded: values of each layer, shape, camera."""
        features = self.backbone(images)
        maps = [scale(features) for scale in self.pyramid]
        values = [layer.cross_attention.values(maps) for layer in self.layers]
        return values, *self.shape_head(self.head_map(features.flatten(1, 2)))

    def predict(self, tokens, cue, values):
        """Logits [batch, L, codes] of tokens [batch, L], `codes` for hidden ones, and a cue [batch, 21, 3]."""
        length = self.config["tokens"]
        cue = cue * (cue[..., 2:] > 0) if self.config["use_cue"] else torch.zeros_like(cue)
        pose = self.token_embedding(tokens) + self.token_places
        x = torch.cat([pose, self.cue_projection(cue) + self.cue_places], dim=1)
        for block in self.graph:
            x = block(x)
        x = x[:, :length]
        own = cue[:, [KEYPOINT_OF_JOINT[token * JOINTS // length] for token in range(length)]]
        seen = torch.stack([(own[..., 0] + 0.5 - CUT_SHARE) / (1 - 2 * CUT_SHARE), own[..., 1] + 0.5], dim=-1)
        references = torch.where(own[..., 2:] > 0, seen, torch.sigmoid(self.references(x)))
        for layer, of_layer in zip(self.layers, values, strict=True):
            x = layer(x, references, of_layer)
        return self.logits(self.norm(x))

    def forward(self, images, tokens, cue):
        """Logits, shape and camera, of some tokens."""
        values, betas, camera = self.encode(images)
        return self.predict(tokens, cue, values), betas, camera

    @torch.no_grad()
    def recover(self, images, cue, iterations=5, mean_codes=True):
        """Decodes all tokens, the surest of each iteration kept.

        Args:
            images: [batch, 3, size, size] in [-1, 1].
            cue: x and y of keypoints in the crop, -0.5 to 0.5, and confidence, 0 where there is none.
            iterations: T.
            mean_codes: whether a token stands for the mean of all codes by their probabilities, or for its own code.
        """
        values, betas, camera = self.encode(images)
        codebook = self.decoder.tensors["codebook"]
        length, codes = self.config["tokens"], self.config["codes"]
        tokens = torch.full((len(images), length), codes, device=images.device)
        sure = torch.zeros(tokens.shape, device=images.device)
        means = torch.zeros((*tokens.shape, codebook.shape[1]), device=images.device)
        for step in range(1, iterations + 1):
            shares = self.predict(tokens, cue, values).softmax(dim=-1)
            probability, chosen = shares.max(dim=-1)
            known = tokens < codes
            means = torch.where(known[..., None], means, shares @ codebook)
            tokens, sure = torch.where(known, tokens, chosen), torch.where(known, sure, probability)
            count = max(0, math.floor(length * math.cos(math.pi / 2 * step / iterations)))
            rank = sure.masked_fill(known, math.inf).argsort(dim=-1, stable=True).argsort(dim=-1)
            tokens, sure = tokens.masked_fill(rank < count, codes), sure.masked_fill(rank < count, 0)
        return Recovered(self.decoder(means if mean_codes else codebook[tokens]), betas, camera, sure)
