"""Two virtual servers under QEMU that boot the real image: try it, test it, break it without hardware."""
