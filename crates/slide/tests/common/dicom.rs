//! DICOM files that are made for a test (PS3.5, section 7; PS3.10, section 7).

/// How elements are written, and what frames are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Syntax {
    /// Raw frames; each element says of what kind its value is.
    Explicit,
    /// Raw frames; kinds are to be looked up.
    Implicit,
    /// JPEG streams.
    Jpeg,
}

impl Syntax {
    fn identifier(self) -> &'static str {
        match self {
            Self::Explicit => "1.2.840.10008.1.2.1",
            Self::Implicit => "1.2.840.10008.1.2",
            Self::Jpeg => "1.2.840.10008.1.2.4.50",
        }
    }
}

/// Whether frames follow each other by rows, or each says where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Full,
    /// The order is backwards, and the frame of the first tile is left out.
    Sparse,
}

/// What leads to the frames that are items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Table {
    Basic,
    Extended,
    None,
}

/// An element: its tag, its kind and its value.
type Element = (u32, &'static [u8; 2], Vec<u8>);

/// A file to be made.
pub(crate) struct Dicom {
    pub(crate) syntax: Syntax,
    pub(crate) order: Order,
    pub(crate) table: Table,
    pub(crate) image_type: &'static str,
    pub(crate) series: &'static str,
    /// Down and across, in mm.
    pub(crate) spacing: &'static str,
    /// Pixels across and down.
    pub(crate) size: [u32; 2],
    pub(crate) tile: [u16; 2],
    /// Frames by rows, all of them.
    pub(crate) frames: Vec<Vec<u8>>,
    /// Elements that replace others of the same tag, or are added; one without a value is left out.
    pub(crate) changes: Vec<Element>,
}

impl Dicom {
    /// A level of raw pixels: red is the column, green the row.
    pub(crate) fn level(syntax: Syntax, order: Order, size: [u32; 2], tile: [u16; 2]) -> Self {
        let [across, down] = [0, 1].map(|i| size[i].div_ceil(u32::from(tile[i])));
        let frame = |index: u32| {
            let (left, top) = (index % across * u32::from(tile[0]), index / across * u32::from(tile[1]));
            let pixels = (0..u32::from(tile[1]))
                .flat_map(move |y| (0..u32::from(tile[0])).map(move |x| (left + x, top + y)));
            pixels.flat_map(|(x, y)| [x as u8, y as u8, 77]).collect()
        };
        Self {
            syntax,
            order,
            table: Table::Basic,
            image_type: "ORIGINAL\\PRIMARY\\VOLUME\\NONE",
            series: "1.2.3",
            spacing: "0.00025\\0.00025",
            size,
            tile,
            frames: (0..across * down).map(frame).collect(),
            changes: Vec::new(),
        }
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        bytes.extend(encoded(&(0x0002_0010, b"UI", text(self.syntax.identifier())), true));
        let mut elements = self.elements();
        for change in &self.changes {
            elements.retain(|element| element.0 != change.0);
            if !change.2.is_empty() {
                elements.push(change.clone());
            }
        }
        elements.sort_by_key(|element| element.0);
        let is_explicit = self.syntax != Syntax::Implicit;
        elements.iter().for_each(|element| bytes.extend(encoded(element, is_explicit)));
        bytes.extend(self.pixels(is_explicit));
        bytes
    }

    fn stored(&self) -> Vec<(usize, &Vec<u8>)> {
        let frames = self.frames.iter().enumerate();
        match self.order {
            Order::Full => frames.collect(),
            Order::Sparse => frames.skip(1).rev().collect(),
        }
    }

    fn elements(&self) -> Vec<Element> {
        let is_explicit = self.syntax != Syntax::Implicit;
        let spacing = sequence(&[vec![(0x0028_0030, b"DS", text(self.spacing))]], is_explicit);
        let measures = sequence(&[vec![(0x0028_9110, b"SQ", spacing)]], is_explicit);
        let optics = sequence(&[vec![(0x0048_0112, b"DS", text("40"))]], is_explicit);
        let mut elements: Vec<Element> = vec![
            (0x0008_0008, b"CS", text(self.image_type)),
            (0x0008_0016, b"UI", text("1.2.840.10008.5.1.4.1.1.77.1.6")),
            (0x0020_000e, b"UI", text(self.series)),
            (0x0028_0002, b"US", short(3)),
            (0x0028_0004, b"CS", text(if self.syntax == Syntax::Jpeg { "YBR_FULL_422" } else { "RGB" })),
            (0x0028_0006, b"US", short(0)),
            (0x0028_0008, b"IS", text(&self.stored().len().to_string())),
            (0x0028_0010, b"US", short(self.tile[1])),
            (0x0028_0011, b"US", short(self.tile[0])),
            (0x0028_0100, b"US", short(8)),
            (0x0028_0101, b"US", short(8)),
            (0x0048_0006, b"UL", long(self.size[0])),
            (0x0048_0007, b"UL", long(self.size[1])),
            (0x0048_0105, b"SQ", optics),
            (0x5200_9229, b"SQ", measures),
        ];
        if self.order == Order::Sparse {
            elements.push((0x5200_9230, b"SQ", sequence(&self.positions(is_explicit), is_explicit)));
        }
        if self.table == Table::Extended {
            let (mut at, mut offsets) = (0u64, Vec::new());
            for (_, frame) in self.stored() {
                offsets.extend(at.to_le_bytes());
                at += 8 + frame.len().next_multiple_of(2) as u64;
            }
            elements.push((0x7fe0_0001, b"OV", offsets));
        }
        elements
    }

    /// An item for each frame, with its left and upper edge, counted from 1.
    fn positions(&self, is_explicit: bool) -> Vec<Vec<Element>> {
        let across = self.size[0].div_ceil(self.tile[0].into()) as usize;
        let position = |(index, _)| {
            let left = (index % across) as u32 * u32::from(self.tile[0]) + 1;
            let top = (index / across) as u32 * u32::from(self.tile[1]) + 1;
            let place = vec![(0x0048_021e, b"SL", long(left)), (0x0048_021f, b"SL", long(top))];
            vec![(0x0048_021a, b"SQ", sequence(&[place], is_explicit))]
        };
        self.stored().into_iter().map(position).collect()
    }

    fn pixels(&self, is_explicit: bool) -> Vec<u8> {
        let frames: Vec<&Vec<u8>> = self.stored().into_iter().map(|(_, frame)| frame).collect();
        if self.syntax != Syntax::Jpeg {
            let all = frames.into_iter().flatten().copied().collect();
            return encoded(&(0x7fe0_0010, b"OW", all), is_explicit);
        }
        let mut bytes = [tag(0x7fe0_0010), b"OB\0\0\xff\xff\xff\xff".to_vec()].concat();
        let (mut items, mut offsets) = (Vec::new(), Vec::new());
        for frame in frames {
            offsets.extend((items.len() as u32).to_le_bytes());
            items.extend(item(frame));
        }
        bytes.extend(item(if self.table == Table::Basic { &offsets } else { &[] }));
        bytes.extend(items);
        bytes.extend(b"\xfe\xff\xdd\xe0\0\0\0\0");
        bytes
    }
}

/// A value that fills an even number of bytes.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(2), b' ');
    bytes
}

/// A 16-bit number.
pub(crate) fn short(number: u16) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// A 32-bit number.
pub(crate) fn long(number: u32) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn tag(tag: u32) -> Vec<u8> {
    [((tag >> 16) as u16).to_le_bytes(), (tag as u16).to_le_bytes()].concat()
}

fn item(content: &[u8]) -> Vec<u8> {
    let length = content.len().next_multiple_of(2);
    let mut bytes = [tag(0xfffe_e000), (length as u32).to_le_bytes().to_vec(), content.to_vec()].concat();
    bytes.resize(8 + length, 0);
    bytes
}

/// Items of elements; of two the first states its length, the second ends with a mark.
fn sequence(items: &[Vec<Element>], is_explicit: bool) -> Vec<u8> {
    let content = |elements: &Vec<Element>| -> Vec<u8> {
        elements.iter().flat_map(|element| encoded(element, is_explicit)).collect()
    };
    let each = items.iter().enumerate().map(|(index, elements)| match index % 2 {
        0 => item(&content(elements)),
        _ => [
            b"\xfe\xff\x00\xe0\xff\xff\xff\xff".to_vec(),
            content(elements),
            b"\xfe\xff\x0d\xe0\0\0\0\0".to_vec(),
        ]
        .concat(),
    });
    each.flatten().collect()
}

fn encoded((number, kind, value): &Element, is_explicit: bool) -> Vec<u8> {
    let mut bytes = tag(*number);
    let is_long = matches!(*kind, b"OB" | b"OW" | b"OV" | b"SQ");
    match (is_explicit, is_long) {
        (true, true) => bytes.extend([&kind[..], &[0, 0]].concat()),
        (true, false) => bytes.extend(*kind),
        (false, _) => {}
    }
    match is_explicit && !is_long {
        true => bytes.extend((value.len() as u16).to_le_bytes()),
        false => bytes.extend((value.len() as u32).to_le_bytes()),
    }
    bytes.extend(value);
    bytes
}
