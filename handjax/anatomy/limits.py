"""What human hands can do and how they are proportioned: the tables that plausibility is judged by."""

import numpy as np

ANGLE_LIMITS = np.radians(
    [
        *[(-15, 55), (-10, 60), (-20, 80)],
        *[(-30, 90), (0, 110), (-5, 80)] * 4,
    ]
)
"""(15, 2) least and greatest flexion of the joints of `features.ANGLE_NAMES`, radians; 0 is a straight joint.

Source, finger MCP, PIP, DIP and thumb MCP, IP: goniometric norms of the American Academy of Orthopaedic Surgeons as
tabulated in Norkin and White, "Measurement of Joint Motion", with the PIP limit of 110 degrees of Lin, Wu and Huang,
"Modeling the Constraints of Human Hand Motion", 2000, and the hyperextension of 30 degrees that index to little
knuckles reach when the fingers are spread hard (Norkin and White give 0 to 45). Thumb CMC: the angle between wrist and
metacarpal is not the joint's own; flexion of 53 degrees of Cooney et al., "The Kinesiology of the Thumb
Trapeziometacarpal Joint", 1981, about the median that the norms below have.
"""

LANDMARK_TOLERANCE = np.radians(25.0)
"""By how much landmarks of real hands may lie outside `ANGLE_LIMITS`.

Measured on the 1,413 hands that the detector finds in the Sign Language Digits photographs: their worst angle is off
by more than 20 degrees in 4.0 % and by more than 25 degrees in 1.9 %.
"""

MOST_MISFIT = 0.1
"""Above it `features.projection_misfit` says that keypoints in space and in the picture are not those of one hand.

Source: the same hands, of which 0.7 % lie above it.
"""

DIGIT_RATIOS = np.array([1.043, 0.813, 0.943, 0.848, 0.673])
"""Length of each finger over that of the palm, thumb to little: medians of the same 1,413 hands.

Finger from its first keypoint outside the wrist to the tip; palm from the wrist to the middle finger's knuckle.
"""
