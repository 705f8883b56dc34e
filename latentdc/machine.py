# moved  # noqa: D100
from latentdc.runtime import Machine as Machine
from latentdc.runtime import device_name as device_name
from latentdc.runtime import this_machine as this_machine
from latentdc.runtime import use_threads as use_threads
