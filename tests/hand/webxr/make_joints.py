"""Makes joints.json from a hand of npm's @webxr-input-profiles/assets 1.0.20 (MIT, LICENSE.md).

python tests/hand/webxr/make_joints.py package/dist/profiles/generic-hand/right.glb
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np

NUMBERS = {5126: "<f4", 5121: "u1"}
COUNTS = {"VEC3": 3, "VEC4": 4}


def joints_of(glb: bytes) -> dict[str, list[float]]:
    """Position (metres) and orientation (quaternion x, y, z, w) of each joint; the rig has no parents.

    WebXR's tip joints lie inside the last bone. The end of each finger's skin is added, as FINGER-end.
    """
    (length,) = struct.unpack_from("<I", glb, 12)
    content, binary = json.loads(glb[20 : 20 + length]), glb[28 + length :]

    def array(name: str) -> np.ndarray:
        accessor = content["accessors"][content["meshes"][0]["primitives"][0]["attributes"][name]]
        view, width = content["bufferViews"][accessor["bufferView"]], COUNTS[accessor["type"]]
        numbers = NUMBERS[accessor["componentType"]]
        return np.frombuffer(binary, numbers, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)

    nodes = [content["nodes"][node] for node in content["skins"][0]["joints"]]
    joints = {node["name"]: [*node["translation"], *node["rotation"]] for node in nodes}
    vertices, owner = array("POSITION"), array("JOINTS_0")[:, 0]
    for index, node in enumerate(nodes):
        name = node["name"]
        if name.endswith("-phalanx-distal"):
            finger = name.removesuffix("-phalanx-distal")
            start = np.array(joints[name][:3])
            skin = vertices[owner == index]
            end = skin[np.argmax((skin - start) @ (np.array(joints[f"{finger}-tip"][:3]) - start))]
            joints[f"{finger}-end"] = [*end.tolist(), 0.0, 0.0, 0.0, 1.0]
    return {name: [round(value, 6) for value in values] for name, values in joints.items()}


if __name__ == "__main__":
    joints = joints_of(Path(sys.argv[1]).read_bytes())
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(values)}" for name, values in joints.items())
    Path(__file__).with_name("joints.json").write_text("{\n" + lines + "\n}\n")
