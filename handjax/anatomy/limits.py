"""What human hands can do and how they are proportioned: the tables that plausibility is judged by.

Sources of angles, of which a row takes the widest range that one of them gives:

* AAOS: American Academy of Orthopaedic Surgeons, "Joint Motion: Method of Measuring and Recording", 1965, whose norms
  Norkin and White, "Measurement of Joint Motion", and others tabulate. We have read them in such tables.
* Eaton: typical ranges of C. Eaton's Electronic Textbook of Hand Surgery, e-hand.com/nor/nor002.htm.
* Lin: Lin, Wu and Huang, "Modeling the Constraints of Human Hand Motion", 2000, static constraints.
* Cooney: Cooney et al., "The Kinesiology of the Thumb Trapeziometacarpal Joint", 1981, abstract.

An et al., "Normative Model of Human Hand for Biomechanical Analysis", 1979, which HandAnat names as its source, is a
model of the joints' and tendons' places in ten hands: its abstract promises no ranges of motion.
"""

import numpy as np

ANGLE_LIMITS = np.radians(
    [
        (-10, 43),  # thumb CMC, ours: the total of 53 of Cooney about 17, the median of photographs (below)
        (-10, 55),  # thumb MCP: Eaton (AAOS 0 to 50)
        (-20, 80),  # thumb IP: AAOS (Eaton -15 to 80)
        *[
            (-45, 90),  # MCP: AAOS and Eaton, where hyperextension is 0 to 45 (Lin 0 to 90)
            (0, 110),  # PIP: Lin (AAOS and Eaton 0 to 100)
            (0, 90),  # DIP: AAOS and Lin (Eaton 0 to 80)
        ]
        * 4,
    ]
)
"""(15, 2) least and greatest flexion of the joints of `features.ANGLE_NAMES`, radians; 0 is a straight joint.

The thumb's CMC has no straight pose: keypoints give the angle between its metacarpal and a line from the wrist.
"""

LANDMARK_TOLERANCE = np.radians(25.0)
"""By how much landmarks of real hands may lie outside `ANGLE_LIMITS`, in both verdicts (DECISIONS E2).

`launch.bench anatomy` prints how many of the hands in Sign Language Digits photographs that no test set is made of lie
farther out: a few in a hundred.
"""

MOST_MISFIT = 0.1
"""Above it `features.projection_misfit` says that keypoints in space and in the picture are not those of one hand.

Source: the same hands, of which about one in a hundred lies above it.
"""

DIGIT_RATIOS = np.array([1.043, 0.815, 0.945, 0.850, 0.673])
"""Length of each finger over that of the palm, thumb to little: medians of the same hands.

Finger from its first keypoint outside the wrist to the tip; palm from the wrist to the middle finger's knuckle.
"""
