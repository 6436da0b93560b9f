"""Says what pytxmr is made of: packages, and what is compiled. All else is in pyproject.toml."""

from setuptools import Extension, find_packages, setup

setup(
    packages=[
        *find_packages(include=["pytxmr", "pytxmr.*"]),
        # The examples live at the top of the checkout, and are installed beside the code.
        "pytxmr.examples",
        # Named by hand, as find_packages passes over a directory without an __init__.py. There
        # must be none: installed, it would overwrite the one that belongs to Twisted.
        "twisted.plugins",
    ],
    package_dir={"pytxmr.examples": "examples"},
    # Without a C compiler pytxmr is installed without it, works as well, and takes longer.
    ext_modules=[Extension("pytxmr.records._gather", ["pytxmr/records/gather.c"], optional=True)],
    include_package_data=False,
    package_data={
        "pytxmr": ["py.typed"],
        "pytxmr.records": ["_gather.pyi"],
        "pytxmr.examples": ["data/*"],
    },
    # Three megabytes of novel: in the source distribution, but not in everybody's site-packages.
    exclude_package_data={"pytxmr.examples": ["data/warandpeace.txt"]},
    zip_safe=False,
)
