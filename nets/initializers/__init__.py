"""The rules for initial weights. A new one is a class here and its line below: what is imported is registered.

Every rule draws float64; a float32 network starts from the same numbers, rounded.
"""

from gradcheck.contract import Initializer
from nets.initializers.fans import fans_of as fans_of
from nets.initializers.filling import initialize as initialize
from nets.initializers.kaiming import LINEAR as LINEAR
from nets.initializers.kaiming import TORCH_DEFAULT as TORCH_DEFAULT
from nets.initializers.kaiming import KaimingNormal as KaimingNormal
from nets.initializers.kaiming import KaimingUniform as KaimingUniform
from nets.initializers.kaiming import gain_of as gain_of
from nets.initializers.plain import Constant as Constant
from nets.initializers.plain import Normal as Normal
from nets.initializers.plain import Uniform as Uniform
from nets.initializers.plain import ZeroRow as ZeroRow
from nets.initializers.xavier import XavierNormal as XavierNormal
from nets.initializers.xavier import XavierUniform as XavierUniform

INITIALIZERS: tuple[type[Initializer], ...] = tuple(
    each
    for each in list(globals().values())
    if isinstance(each, type) and issubclass(each, Initializer) and each is not Initializer
)
