# SPDX-License-Identifier: GPL-2.0-only
"""What a night can say of a metric."""

SAME = "same"
BETTER = "better"
SUSPECT = "suspect"
CONFIRMED = "confirmed"
CLEARED = "cleared"
INCONCLUSIVE = "inconclusive"
# What says that a night was slower, and that it was not.
SLOWER = (SUSPECT, CONFIRMED)
GOOD = (SAME, BETTER, CLEARED)
