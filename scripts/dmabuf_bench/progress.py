# SPDX-License-Identifier: GPL-2.0-only
"""Messages of this program on stderr."""

from dmabuf_common.terminal import Voice

say = Voice("dmabuf-bench").say
