//! Archives written byte by byte: no program writes what is tested here.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part of it

/// A header in the making. Every field is bytes, so that nothing is corrected on the way.
#[derive(Clone)]
pub struct Header {
    pub name: Vec<u8>,
    pub mode: Vec<u8>,
    pub size: Vec<u8>,
    pub mtime: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub magic: Vec<u8>,
    pub prefix: Vec<u8>,
}

pub fn header(name: impl AsRef<[u8]>, kind: u8, size: u64) -> Header {
    Header {
        name: name.as_ref().to_vec(),
        mode: b"0000644\0".to_vec(),
        size: format!("{size:011o}\0").into_bytes(),
        mtime: b"00000001750\0".to_vec(),
        kind,
        link: Vec::new(),
        magic: b"ustar\x0000".to_vec(),
        prefix: Vec::new(),
    }
}

impl Header {
    pub fn link(mut self, link: impl AsRef<[u8]>) -> Self {
        self.link = link.as_ref().to_vec();
        self
    }

    pub fn size(mut self, size: impl AsRef<[u8]>) -> Self {
        self.size = size.as_ref().to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, most: usize, bytes: &[u8]| {
            let bytes = &bytes[..bytes.len().min(most)];
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, 100, &self.name);
        put(100, 8, &self.mode);
        put(108, 16, b"0000000\x000000000\0");
        put(124, 12, &self.size);
        put(136, 12, &self.mtime);
        put(148, 8, b"        ");
        put(156, 1, &[self.kind]);
        put(157, 100, &self.link);
        put(257, 8, &self.magic);
        put(345, 155, &self.prefix);
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// Pads to whole blocks.
pub fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub fn entry(name: impl AsRef<[u8]>, kind: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [header(name, kind, content.len() as u64).bytes(), padded(content.to_vec())].concat()
}

pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Vec<u8> {
    entry(name, b'0', content)
}

pub fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let tail = [b" ", key.as_bytes(), b"=", value.as_ref(), b"\n"].concat();
    let length = (1..1_000_000).find(|l| *l == tail.len() + l.to_string().len()).unwrap();
    [length.to_string().as_bytes(), &tail].concat()
}

/// A pax header with these records.
pub fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let all: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    entry("pax", b'x', all)
}

pub fn global(records: &[(&str, &[u8])]) -> Vec<u8> {
    let all: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    entry("pax_global_header", b'g', all)
}

/// GNU's long name or link.
pub fn long(kind: u8, name: impl AsRef<[u8]>) -> Vec<u8> {
    entry("././@LongLink", kind, [name.as_ref(), b"\0"].concat())
}

pub const END: [u8; 1024] = [0; 1024];

pub fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), END.to_vec()].concat()
}
