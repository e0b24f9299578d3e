"""What the sections of params.yaml are made of; each stands beside the code that uses it."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of every section: frozen, an unknown key is an error, no default but in params.yaml.

    The docstring under a field is its help text: in forms, and word for word as the comment in
    params.yaml.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def changed(self, **values: Any) -> Self:
        """A copy with other values, checked like the original.

        Raises:
            ValidationError: an unknown key or a value out of bounds.
        """
        return type(self).model_validate(self.model_dump() | values)
