"""What `from latentdc import ...` gives."""

import latentdc
from latentdc.recipe import METHODS
from latentdc.recipe.methods import MethodSections


def test_every_method_and_its_settings_are_at_the_top():
    sections = MethodSections()
    for kind, method in METHODS.items():
        if kind != "matching":  # whose function is `match`, with its objective as an argument
            function = getattr(latentdc, kind)
            assert f"{function.__module__}:{function.__name__}" == method.function
        for section in method.sections:
            settings = type(getattr(sections, section))
            assert getattr(latentdc, settings.__name__) is settings
    assert {"Select", "match", *METHODS} - {"matching"} <= {*latentdc.__all__}
