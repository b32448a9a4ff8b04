//! What a build leaves: names, links, ELF files.
