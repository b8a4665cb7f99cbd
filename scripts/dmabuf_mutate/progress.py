# SPDX-License-Identifier: GPL-2.0-only
"""Messages of this program on stderr."""

from dmabuf_common.terminal import Voice

_VOICE = Voice("dmabuf-mutate")
say, step = _VOICE.say, _VOICE.step
