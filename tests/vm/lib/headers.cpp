// SPDX-License-Identifier: GPL-2.0-only
// Nothing: the headers that are compiled for all programs belong to a target, and a target has a
// file.
