# SPDX-License-Identifier: GPL-2.0-only
"""Results as one document, and what is made of it: HTML, JUnit XML, KTAP, CSV."""
