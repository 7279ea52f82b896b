"""The helper of open_broker: it clears a notebook's keys away when its kernel is gone."""

from labkit.notebook import clear_when_the_kernel_is_gone

clear_when_the_kernel_is_gone()
