"""What the main job remembers over restarts and backups: its people, its bundles, and when it was done."""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from acgs1.kit.home import Home, write_private


class UnreadableNotes(Exception):
    """The file of the notes does not hold notes; the message names it and says what would help."""


class Person(BaseModel):
    """One of the example's people. `id` is None until the account is known to exist."""

    password: str
    id: str | None = None


class Notes(BaseModel):
    """`people` by name; `bundles`: the hashes of those that the job has built; `done_at`: when it first came to its end."""

    people: dict[str, Person] = {}
    bundles: list[str] = []
    done_at: datetime | None = None

    def keep(self, home: Home) -> None:
        """Write them down (0600), all or nothing."""
        write_private(notes_file(home), self.model_dump_json(indent=2).encode())


def notes_file(home: Home) -> Path:
    """Where the notes are: part of every backup."""
    return home.root / "demo.json"


def read_notes(home: Home) -> Notes:
    """The notes of this data directory, empty before the first run of the job. Raises UnreadableNotes."""
    file = notes_file(home)
    try:
        if file.exists():
            return Notes.model_validate_json(file.read_bytes())
        return _of_version_0_1(home)
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not what the main job writes"
        raise UnreadableNotes(f"`{file}` cannot be read: {why}; restore it from a backup or move it away") from None


def _of_version_0_1(home: Home) -> Notes:
    """Version 0.1.0 kept names, passwords and ids side by side in `run/`, which no backup holds."""
    old = home.run / "demo.json"
    if not old.exists():
        return Notes()
    flat = TypeAdapter(dict[str, str]).validate_json(old.read_bytes())
    people = {name: Person(password=word, id=flat.get(f"{name}.id")) for name, word in flat.items() if "." not in name}
    return Notes(people=people)
