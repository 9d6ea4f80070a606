"""The published experiments, and two of our own, as data: what both engines are built from."""

from nets.presets.preset import Preset as Preset
from nets.presets.preset import rule_of as rule_of
from nets.presets.published import PRESETS as PRESETS
from nets.presets.published import measured as measured
from nets.presets.text import PARTS as PARTS
from nets.presets.text import SAID as SAID
from nets.presets.text import configuration as configuration
from nets.presets.text import configured as configured
