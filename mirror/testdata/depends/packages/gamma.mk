package=gamma
$(package)_version=3
$(package)_download_path=http://gamma.invalid
$(package)_file_name=$(package)-$($(package)_version).tar.gz
$(package)_sha256_hash=1b4981956b0975fb289439bc93c80d6083beac50f0bf910567c5307e712a6fe7
