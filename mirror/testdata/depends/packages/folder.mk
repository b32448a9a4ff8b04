package=folder
$(package)_local_dir=packages
