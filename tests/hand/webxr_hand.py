"""The generic hand of WebXR (tests/hand/webxr), posed by its own joints in float64: a hand that nobody fitted to."""

import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

JOINTS = json.loads((Path(__file__).parent / "webxr" / "joints.json").read_text())
FINGERS = ("thumb", "index-finger", "middle-finger", "ring-finger", "pinky-finger")
BONES = ("phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "end")
THUMB_BONES = ("metacarpal", "phalanx-proximal", "phalanx-distal", "end")


def webxr_keypoints(bends):
    """The 21 keypoints in OpenPose's order, metres.

    Args:
        bends: (5, 3) flexion of each finger's joints, radians. A joint's -z looks along its bone and its x to the
            right of a hand whose back is up, so that flexion turns about -x.
    """
    keypoints = [np.array(JOINTS["wrist"][:3])]
    for finger, angles in zip(FINGERS, bends, strict=True):
        rest = np.array([JOINTS[f"{finger}-{bone}"] for bone in (THUMB_BONES if finger == "thumb" else BONES)])
        points, turn = [rest[0, :3]], Rotation.identity()
        for joint in range(3):
            own = Rotation.from_quat(rest[joint, 3:])
            turn = turn * own * Rotation.from_rotvec([-angles[joint], 0, 0]) * own.inv()
            points.append(points[-1] + turn.apply(rest[joint + 1, :3] - rest[joint, :3]))
        keypoints += points
    return np.array(keypoints)
