package=alpha
$(package)_version=1.0
$(package)_download_path=http://alpha.invalid/$($(package)_version)
$(package)_download_file=v$($(package)_version).tar.gz
$(package)_file_name=$(package)-$($(package)_version).tar.gz
$(package)_sha256_hash=bf90d5d22724ca08cebecd0fb15af348be9eedb1aab333d4dbde5a8c2047d947

define $(package)_config_cmds
  $(shell this is not looked at) \
  ./configure # nor is this
endef
