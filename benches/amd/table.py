#!/usr/bin/env python3
"""What AMD's offline compiler makes of every kernel: registers, spills, local memory, occupancy.

    arcsm-bench --dump-shaders DIR
    benches/amd/table.py DIR -- COMMAND ...  > benches/results/DATE-amd.md

COMMAND is run with a WGSL file as its last argument, once for each of the chips, and prints the statistics of the pipeline
that the driver makes of it, one a line: the name as VK_KHR_pipeline_executable_properties has it, spaces, the value.
Such a program is short: naga translates to SPIR-V (bounds checks as wgpu has them), the pipeline is created with
VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR, and vkGetPipelineExecutableStatisticsKHR is asked. Mesa's RADV compiles for chips
that are not there: RADV_FORCE_FAMILY, which this script sets, names one.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys

DRIVER = "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json"
# Rates of the cards that the chips are best known from: f32 without dual issue (10^12 FLOP/s), memory (10^9 B/s).
CHIPS = {"navi21": ("RX 6900 XT", 23.0, 512), "navi31": ("RX 7900 XTX", 30.7, 960)}
WANTED = ["VGPRs", "Spilled VGPRs", "Spilled SGPRs", "LDS size", "Scratch size", "Subgroups per SIMD"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="what arcsm-bench --dump-shaders wrote")
    parser.add_argument("--variant", default="baseline", help="which variants: baseline or cpu-subgroups")
    parser.add_argument("--driver", default=DRIVER, help="Vulkan manifest of RADV")
    parser.add_argument("command", nargs="+", help="prints the statistics of a WGSL file")
    return parser.parse_args()


def statistics(options, chip, shader):
    """The wanted numbers, by name."""
    environment = os.environ | {
        "RADV_FORCE_FAMILY": chip,
        "VK_DRIVER_FILES": options.driver,
        "VK_ICD_FILENAMES": options.driver,
    }
    command = [*options.command, str(options.folder / shader)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = {name: re.search(rf"^\s*{name}\s+(\d+)\s*$", done.stdout, re.MULTILINE) for name in WANTED}
    if missing := [name for name, match in found.items() if not match]:
        sys.exit(f"{shader} on {chip}: the command did not print {', '.join(missing)}\n{done.stderr}")
    return {name: int(match[1]) for name, match in found.items()}


def shapes(options):
    """The kernels with their shaders, and of each the use that takes the most."""
    rows = collections.OrderedDict()
    for row in json.loads((options.folder / "kernels.json").read_text()):
        if shader := row["shaders"].get(options.variant):
            known = rows.get(shader)
            if known is None or known["flop"] + known["bytes"] < row["flop"] + row["bytes"]:
                rows[shader] = row
    return rows


def bound(flop, size, chip):
    _, flops, bandwidth = CHIPS[chip]
    return "compute" if flop / (1e12 * flops) >= size / (1e9 * bandwidth) else "memory"


def main():
    options = arguments()
    heads = "".join(f" {chip}: VGPR | spilled VGPR, SGPR | waves per SIMD | LDS | bound |" for chip in CHIPS)
    print(f"| kernel | where | largest argument | calls | MFLOP | MB | FLOP/B |{heads}")
    print("|---|---|---|--:|--:|--:|--:|" + "--:|--:|--:|--:|---|" * len(CHIPS))
    spilling = []
    for shader, row in shapes(options).items():
        flop, size = row["flop"], row["bytes"]
        line = f"| {row['kernel']} | {row['where']} | {row['sizes']} | {row['calls']} | {flop / 1e6:.2f} | {size / 1e6:.2f} "
        line += f"| {flop / max(size, 1):.1f} |"
        for chip in CHIPS:
            found = statistics(options, chip, shader)
            spilled = found["Spilled VGPRs"], found["Spilled SGPRs"]
            line += f" {found['VGPRs']} | {spilled[0]}, {spilled[1]} | {found['Subgroups per SIMD']} | {found['LDS size']} "
            line += f"| {bound(flop, size, chip)} |"
            if spilled[0] or found["Scratch size"]:
                scratch = found["Scratch size"]
                spilling.append(f"`{row['kernel']}` ({row['where']}) on {chip}: {spilled[0]} VGPRs, {scratch} bytes a wave")
        print(line)
    print("\nSpills to memory: " + ("; ".join(spilling) if spilling else "none") + ".")


if __name__ == "__main__":
    main()
