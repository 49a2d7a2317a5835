"""Takes the place of a source package's build backend while fetch.py downloads it.

pip asks a source package's own build system for its metadata even when it is only told to download. We want the
text files inside, not a build, and no stranger's code should run for them: this backend answers with a name.
"""
import os


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    with open("PKG-INFO", encoding="utf-8") as given:
        metadata = given.read()
    field = dict(line.split(": ", 1) for line in metadata.split("\n\n")[0].splitlines() if ": " in line)
    folder = f"{field['Name']}-{field['Version']}.dist-info"
    os.makedirs(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w", encoding="utf-8") as out:
        out.write(metadata)
    return folder
