# SPDX-License-Identifier: GPL-2.0-only
"""Guests with Secure Boot: the firmware, the key in its variables, and what is asked of the guest."""

import os
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest
from dmabuf_lab import build, cli, config, guest_kernel, initramfs, mok_manager, qemu, root, runner, secure_boot, vm
from dmabuf_lab.errors import LabError

KEY = secure_boot.Key(b"a private key", b"a certificate of some bytes")
HEADER = 72


def flash(*variables: tuple[str, bytes], size: int = 2048) -> bytes:
    """Variables of EDK2's, in a volume whose header has this many bytes."""
    store = b""
    for name, data in variables:
        text = name.encode("utf-16-le") + b"\0\0"
        store += secure_boot.VARIABLE_HEADER.pack(
            secure_boot.VARIABLE_START, secure_boot.VARIABLE_ADDED, 0, 7, 0, bytes(16), 0, len(text), len(data), bytes(16)
        )
        store += text + data
        store += b"\xff" * (-len(store) % 4)
    head = secure_boot.STORE_HEADER.pack(secure_boot.AUTHENTICATED_STORE.bytes_le, size, 0x5A, 0xFE, 0, 0)
    volume = bytearray(HEADER)
    struct.pack_into("<H", volume, 48, HEADER)
    return bytes(volume) + (head + store).ljust(size, b"\xff") + b"behind"


def variables(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Attributes and data of each, as the firmware finds them."""
    found, place = {}, HEADER + secure_boot.STORE_HEADER.size
    while struct.unpack_from("<H", data, place)[0] == secure_boot.VARIABLE_START:
        fields = secure_boot.VARIABLE_HEADER.unpack_from(data, place)
        name_size, data_size = fields[7], fields[8]
        begin = place + secure_boot.VARIABLE_HEADER.size
        name = data[begin : begin + name_size].decode("utf-16-le").rstrip("\0")
        found[name] = (fields[3], data[begin + name_size : begin + name_size + data_size])
        place = begin + name_size + data_size
        place += -place % 4
    return found


def parse(*words: str) -> runner.Request:
    return cli.request(cli.parser().parse_args(["run", *words, "--", "true"]))


def test_the_key_is_one_more_variable_that_only_boot_services_reach() -> None:
    before = flash(("CustomMode", b"\0"), ("db", b"keys of others!"))
    after = secure_boot.enrol(before, KEY.certificate)
    assert len(after) == len(before) and after.endswith(b"behind")
    found = variables(after)
    assert list(found) == ["CustomMode", "db", "MokList"]
    assert found["db"] == (7, b"keys of others!")
    attributes, data = found["MokList"]
    assert attributes == 3
    kind, size, header, each = struct.unpack_from("<16sIII", data)
    assert kind == secure_boot.X509.bytes_le and (size, header) == (len(data), 0)
    assert each == 16 + len(KEY.certificate)
    assert data[28:44] == secure_boot.SHIM.bytes_le and data[44:] == KEY.certificate


def test_variables_of_another_form_or_without_room_are_refused() -> None:
    with pytest.raises(LabError, match="unknown form"):
        secure_boot.enrol(bytes(4096), KEY.certificate)
    with pytest.raises(LabError, match="no room"):
        secure_boot.enrol(flash(("db", b"x"), size=200), KEY.certificate)
    with pytest.raises(LabError, match="already"):
        secure_boot.enrol(secure_boot.enrol(flash(), KEY.certificate), KEY.certificate)


def packages(folder: Path, *left_out: str) -> Path:
    for name in (
        "usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
        "usr/share/OVMF/OVMF_VARS_4M.ms.fd",
        "usr/lib/shim/shimx64.efi.signed",
        "usr/lib/shim/mmx64.efi.signed",
        "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
        "usr/bin/mokutil",
        "usr/lib/x86_64-linux-gnu/libefivar.so.1",
    ):
        if name not in left_out:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    return folder


def test_what_the_packages_hold_is_kept_and_what_they_lack_is_named(tmp_path: Path) -> None:
    secure_boot.place(packages(tmp_path / "a"), tmp_path / "item")
    made = secure_boot.SecureBoot(tmp_path / "item")
    assert made.code.read_text().endswith("OVMF_CODE_4M.secboot.fd")
    assert made.variables.read_text().endswith("OVMF_VARS_4M.ms.fd")
    assert made.manager.read_text().endswith("mmx64.efi.signed")
    assert made.shim.read_text().endswith("shimx64.efi.signed")
    assert (made.guest / "usr/bin/mokutil").is_file()
    assert (made.guest / "usr/lib/x86_64-linux-gnu/libefivar.so.1").is_file()
    with pytest.raises(LabError, match=r"hold no usr/lib/shim/shimx64\.efi\.signed"):
        secure_boot.place(packages(tmp_path / "b", "usr/lib/shim/shimx64.efi.signed"), tmp_path / "other")


def test_what_was_cut_off_while_it_was_fetched_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without info.json it is fetched anew; what is there is not fetched again."""
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(root, "debian_mirror", lambda: "mirror")
    fetched = []

    def fetch(mirror: str, work: Path) -> dict[str, object]:
        fetched.append(mirror)
        secure_boot.place(packages(work / "unpacked"), work / "item")
        return {}

    monkeypatch.setattr(secure_boot, "_fetch", fetch)
    secure_boot.item_path().mkdir()
    left = secure_boot.item_path().with_name(secure_boot.item_path().name + ".tmp.1")
    left.mkdir()
    assert secure_boot.find() is None
    with secure_boot.in_use() as made:
        assert made.shim.is_file() and not left.exists()
        assert secure_boot.remove(everything=True) == [str(made.path)]
    secure_boot.get()
    assert fetched == ["mirror"]
    assert secure_boot.remove(everything=False) == [] and secure_boot.find() is not None
    assert secure_boot.remove(everything=True) == [] and secure_boot.find() is None


def test_kernels_that_debian_did_not_sign_are_refused() -> None:
    runner.check_kernel(parse("--secure-boot"))
    for words in (("--kernel", "debug"), ("--kernel-tree", "/linux")):
        with pytest.raises(LabError, match="kernels that Debian signed"):
            runner.check_kernel(parse("--secure-boot", *words))
    with pytest.raises(LabError, match="for guests of amd64"):
        runner.check_kernel(parse("--secure-boot", "--arch", "arm64"))


def test_a_password_for_the_screen_needs_the_variables_that_the_key_waits_in() -> None:
    runner.check_kernel(parse("--secure-boot", "--flash", "f", "--mok-password", "x"))
    with pytest.raises(LabError, match="--flash .* needs --secure-boot"):
        runner.check_kernel(parse("--flash", "f"))
    with pytest.raises(LabError, match="needs the --flash"):
        runner.check_kernel(parse("--secure-boot", "--mok-password", "x"))


def test_variables_that_stay_are_made_once_with_no_key_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secure_boot.place(packages(tmp_path / "a"), tmp_path / "item")
    item = secure_boot.SecureBoot(tmp_path / "item")
    (item.path / "info.json").write_text("{}")
    monkeypatch.setattr(secure_boot, "get", lambda: item)
    request = parse("--secure-boot", "--flash", str(tmp_path / "flash"))
    for expected in (item.variables.read_text(), "what the guest wrote"):
        with ExitStack() as stack:
            firmware, key = runner.firmware_for(stack, request, root.Root(tmp_path, {}))
        assert key is None and firmware is not None and firmware.flash is not None
        assert firmware.flash.read_text() == expected
        firmware.flash.write_text("what the guest wrote")
    fd = vm.flash_of(firmware)
    os.pwrite(fd, b"W", 0)
    os.close(fd)
    assert (tmp_path / "flash").read_text() == "What the guest wrote", "the file itself"


# What the firmware's console shows, as it draws it: each text at its place, in a colour. And what is typed then.
SCREENS = (
    ("\x1b[01;35HShim UEFI key management", b""),
    ("\x1b[24;01HPress any key to perform MOK manage", b""),
    ("ment\x1b[25;01HBooting in 10 seconds", b"\r"),
    ("Booting in 9 seconds\x1b[01;39HPerform MOK management\x1b[14;45HContinue boot\x1b[15;46HEnroll", b""),
    (" \x1b[0m\x1b[37mMOK\x1b[16;42HEnroll key from disk", b"\x1b[B\r"),
    ("\x1b[01;45H[Enroll MOK]\x1b[14;45HView key 0\x1b[15;46HContinue", b"\x1b[B\r"),
    ("\x1b[05;40HEnroll the key(s)?\x1b[14;49HNo\x1b[15;49HYes", b"\x1b[B\r"),
    ("\x1b[10;46HPassword:", b"secret\r"),
    ("\x1b[01;39HPerform MOK management\x1b[14;48HReboot", b"\r"),
)


def test_somebody_goes_through_the_screen_step_by_step() -> None:
    operator = mok_manager.Operator("secret")
    for shown, typed in SCREENS:
        assert operator.missing() is not None
        assert operator.see(shown.encode()) == typed, shown
    assert operator.missing() is None
    assert operator.see(SCREENS[2][0].encode()) == b"", "all is done"


def test_a_wrong_password_is_said_and_a_screen_that_stays_away_is_named() -> None:
    operator = mok_manager.Operator("secret")
    for shown, _ in SCREENS[:-1]:
        operator.see(shown.encode())
    assert operator.missing() == "Reboot"
    with pytest.raises(LabError, match="refuses the password"):
        operator.see(b"\x1b[10;46HPassword doesn't match")


def test_the_machine_boots_the_firmware_whose_flash_only_smm_writes() -> None:
    firmware = qemu.Firmware(Path("/code"), Path("/shim"), Path("/grub"), Path("/manager"), Path("/guest"), b"keys")
    kernel = guest_kernel.GuestKernel("7.3", Path("/vmlinuz"), Path("/root/usr/lib/modules/7.3"))
    channels = {name: 9 for name in (qemu.CONSOLE, *qemu.PORTS)}

    def words(machine: qemu.Machine) -> list[str]:
        fds = qemu.Descriptors(3, 4, 5, channels, variables=6, boot=Path("/boot-disk"))
        return qemu.arguments(Path("/root"), kernel, Path("/src"), machine, fds)

    plain, secure = words(qemu.Machine("7.3")), words(qemu.Machine("7.3", firmware=firmware))
    assert "q35,kernel-irqchip=off,smm=on" in secure and "-kernel" in plain
    # The kernel whose signature is looked at comes from the disk.
    assert not {"-kernel", "-initrd", "-append"} & set(secure)
    assert [word for word in secure if word.endswith("file=fat:/boot-disk") and "snapshot=on" in word]
    assert "driver=cfi.pflash01,property=secure,value=on" in secure
    flash_words = [word for word in secure if "if=pflash" in word]
    assert ["unit=0" in word and "readonly=on" in word and "/code" in word for word in flash_words] == [True, False]
    assert "/proc/self/fd/6" in flash_words[1]
    assert 6 in qemu.Descriptors(3, 4, 5, channels, variables=6).all()
    assert [word for word in secure if "path=/guest" in word and "readonly=on" in word]


def test_the_boot_disk_has_shim_grub_and_the_kernel_as_it_is(tmp_path: Path) -> None:
    for name in ("shim", "grub", "manager", "kernel"):
        (tmp_path / name).write_text(f"of {name}")
    firmware = qemu.Firmware(Path("/code"), *(tmp_path / name for name in ("shim", "grub", "manager")), Path("/guest"))
    disk = tmp_path / "disk"
    disk.mkdir()
    qemu.boot_disk(disk, firmware, tmp_path / "kernel", b"of the initrd", "a=b c")
    assert (disk / "EFI/BOOT/BOOTX64.EFI").read_text() == "of shim"
    assert (disk / "EFI/BOOT/grubx64.efi").read_text() == "of grub"
    assert (disk / "EFI/BOOT/mmx64.efi").read_text() == "of manager"
    assert ((disk / "vmlinuz").read_text(), (disk / "initrd").read_bytes()) == ("of kernel", b"of the initrd")
    assert (disk / "EFI/debian/grub.cfg").read_text() == "linux /vmlinuz a=b c\ninitrd /initrd\nboot\n"


def test_the_guest_signs_what_was_built_and_loads_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "checkout", lambda: tmp_path)
    built = "build/lab/kernel/7.3"
    for name in ("dmabuf_rw.ko", "testexp/dmabuf_testexp.ko"):
        (tmp_path / built / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / built / name).write_text("")
    ko, spec = runner.signed_modules(KEY, f"{config.GUEST_SOURCE}/{built}/dmabuf_rw.ko")
    assert ko == f"{runner.SIGNED}/dmabuf_rw.ko"
    assert spec["modules"] == [
        (f"{config.GUEST_SOURCE}/{built}/{name}", f"{runner.SIGNED}/{name}")
        for name in ("dmabuf_rw.ko", "testexp/dmabuf_testexp.ko")
    ]
    assert (spec["key"], spec["key_path"]) == ("a private key", "/var/lib/dkms/mok.key")
    assert runner.signed_modules(KEY, None)[0] is None
    environment = runner.guest_environment(qemu.Machine("7.3"), ko, [])
    assert environment["DMABUF_TESTEXP_KO"] == f"{runner.SIGNED}/testexp/dmabuf_testexp.ko"


def test_the_initramfs_has_what_shows_the_firmwares_variables(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    wanted = (*initramfs.FIRST_MODULES, *initramfs.SECOND_MODULES)
    (modules / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in wanted))
    (modules / "modules.dep").write_text("kernel/fs/efivarfs.ko:\n")
    (modules / "kernel/fs").mkdir(parents=True)
    (modules / "kernel/fs/efivarfs.ko").write_text("")
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/busybox").write_text("")
    kernel = guest_kernel.GuestKernel("7.3", Path("/vmlinuz"), modules)
    plain = initramfs.make(tmp_path, kernel, {}, False)
    secure = initramfs.make(tmp_path, kernel, {}, False, True)
    assert b"want-firmware\0" in secure and b"modules/efivarfs.ko" in secure
    assert b"want-firmware\0" not in plain and b"modules/efivarfs.ko" not in plain
