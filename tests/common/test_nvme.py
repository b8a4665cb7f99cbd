# SPDX-License-Identifier: GPL-2.0-only
"""The log page is read at the places that the NVMe specification gives."""

from dmabuf_common import nvme


def test_the_smart_log_is_read_at_its_places() -> None:
    log = bytearray(512)
    log[0], log[3], log[4], log[5] = 4, 90, 12, 17
    log[1:3] = (273 + 41).to_bytes(2, "little")
    log[48:64] = (3).to_bytes(16, "little")
    log[144:160] = (1 << 64).to_bytes(16, "little")
    log[160:176] = (9).to_bytes(16, "little")
    log[176:192] = (1 << 70).to_bytes(16, "little")
    for place, value in ((192, 5), (196, 6), (216, 7), (220, 8)):
        log[place : place + 4] = value.to_bytes(4, "little")
    assert nvme.parse_health(bytes(log)) == nvme.Health(
        critical=4, temperature_c=41, used_percent=17, written_bytes=3 * 512_000, media_errors=9,
        spare_percent=90, unsafe_shutdowns=1 << 64, warning_temp_time=5, critical_comp_time=6,
        thm_temp1_trans_count=7, thm_temp2_trans_count=8,
        spare_threshold=12, num_err_log_entries=1 << 70,
    )


def test_a_controller_that_is_not_there_says_nothing() -> None:
    assert (nvme.health("nvme-nothing"), nvme.mdts("nvme-nothing")) == (None, None)
