//! Sequential JPEG of 8 bits with Huffman codes, as slides hold it: to the last bit what libjpeg gives, and so what OpenSlide,
//! Pillow and tifffile show. (`zune-jpeg` rounds colour twice where it is halved, and differs by up to four levels.)
//!
//! Strict: of a stream that is of another kind, or breaks a rule, there is none, and the library decides what it is.

use super::huffman::{Bits, Codes, in_block_order, read_block};
use crate::Size;
use microtome_kernels::jpeg::{
    BLOCK_PX, Block, between_rows, double_both, double_columns, inverse_transform, rgb_of_ycbcr,
};

/// A stream whose markers are understood, up to the start of its only scan.
pub(super) struct Stream<'a> {
    pub(super) size: Size,
    components: Vec<Component>,
    quantisations: [Option<[u16; 64]>; 4],
    /// Of first coefficients, and of the others.
    codes: [[Option<Codes>; 4]; 2],
    /// Units between restart markers; 0 without.
    restart: usize,
    scan: &'a [u8],
}

/// One of grey, or of three colours.
struct Component {
    id: u8,
    /// How many blocks of it a unit has, across and down.
    blocks: [usize; 2],
    quantisation: usize,
    /// Tables of first coefficients, and of the others.
    codes: [usize; 2],
}

/// Samples of a component, as far as rows of the picture still need them.
struct Plane {
    /// Extent, without what fills up blocks.
    size: Size,
    /// Whether it has half the picture's columns, half its rows.
    is_halved: [bool; 2],
    stride_px: usize,
    /// Rows of a unit.
    unit_px: usize,
    /// How many rows of units there were so far.
    units: usize,
    /// The last two rows of units.
    kept: Vec<u8>,
    /// A row of the picture, where it is none of these.
    made: Vec<u8>,
    sums: Vec<u16>,
    y: usize,
}

/// What is wanted of three components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    /// Red, green and blue, out of luma and colour differences.
    Converted,
    /// As they are.
    AsTheyAre,
}

fn pair(bytes: &[u8]) -> Option<usize> {
    Some(usize::from(u16::from_be_bytes(*bytes.first_chunk()?)))
}

impl<'a> Stream<'a> {
    /// Reads the markers.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut stream = Self {
            size: Size::new(0, 0),
            components: Vec::new(),
            quantisations: [None; 4],
            codes: Default::default(),
            restart: 0,
            scan: &[],
        };
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let [0xff, marker, behind @ ..] = rest else { return None };
            let length = pair(behind)?;
            let content = behind.get(2..length)?;
            rest = &behind[length..];
            match marker {
                0xc0 | 0xc1 => stream.read_frame(content)?,
                0xc4 => stream.read_codes(content)?,
                0xda => {
                    stream.read_scan(content)?;
                    stream.scan = rest;
                    return Some(stream);
                }
                0xdb => stream.read_quantisations(content)?,
                0xdd => stream.restart = pair(content)?,
                // Applications' segments, and comments.
                0xe0..=0xef | 0xfe => {}
                _ => return None,
            }
        }
    }

    /// Number of components.
    pub(super) fn components(&self) -> usize {
        self.components.len()
    }

    /// Whether components are named as red, green and blue are.
    pub(super) fn is_named_rgb(&self) -> bool {
        self.components.iter().map(|component| component.id).eq(*b"RGB")
    }

    fn read_frame(&mut self, content: &[u8]) -> Option<()> {
        let [8, height @ .., _, _, _] = content.get(..6)? else { return None };
        let (height_px, width_px) = (pair(height)?, pair(&content[3..])?);
        let count = usize::from(content[5]);
        let is_read = self.components.is_empty() && width_px > 0 && height_px > 0 && matches!(count, 1 | 3);
        let listed = content.get(6..).filter(|listed| is_read && listed.len() == 3 * count)?;
        self.size = Size::new(width_px, height_px);
        self.components = listed
            .chunks_exact(3)
            .map(|one| {
                let blocks = [usize::from(one[1] >> 4), usize::from(one[1] & 15)];
                // A single component lies block by block, whatever its sampling.
                let blocks = if count == 1 { [1, 1] } else { blocks };
                Component { id: one[0], blocks, quantisation: usize::from(one[2]), codes: [0; 2] }
            })
            .collect();
        let (first, others) = self.components.split_first()?;
        let is_common = first.blocks.iter().all(|blocks| matches!(blocks, 1 | 2))
            && others.iter().all(|component| component.blocks == [1, 1]);
        is_common.then_some(())
    }

    fn read_codes(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((kind, behind)) = content.split_first() {
            let (counts, symbols) = behind.split_first_chunk::<16>()?;
            let length: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let codes = Codes::new(counts, symbols)?;
            *self.codes.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? = Some(codes);
            content = symbols.get(length..)?;
        }
        Some(())
    }

    fn read_quantisations(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((kind, behind)) = content.split_first() {
            let place = self.quantisations.get_mut(usize::from(kind & 15))?;
            let (values, behind) = match kind >> 4 {
                0 => {
                    let (bytes, behind) = behind.split_first_chunk::<64>()?;
                    (bytes.map(u16::from), behind)
                }
                1 => {
                    let (bytes, behind) = behind.split_first_chunk::<128>()?;
                    let pairs = bytes.as_chunks::<2>().0;
                    (std::array::from_fn(|i| u16::from_be_bytes(pairs[i])), behind)
                }
                _ => return None,
            };
            *place = Some(in_block_order(&values));
            content = behind;
        }
        Some(())
    }

    /// The header of a scan that holds all components, whole.
    fn read_scan(&mut self, content: &[u8]) -> Option<()> {
        let (count, behind) = content.split_first()?;
        let count = usize::from(*count);
        if count == 0 || count != self.components.len() {
            return None;
        }
        let (listed, band) = behind.split_at_checked(2 * count)?;
        for (component, one) in self.components.iter_mut().zip(listed.chunks_exact(2)) {
            component.codes = [usize::from(one[1] >> 4), usize::from(one[1] & 15)];
            if component.id != one[0] {
                return None;
            }
        }
        (band == [0, 63, 0]).then_some(())
    }

    /// Decodes the picture, `[height_px][width_px][components]`; with [`Colours::Converted`] three of them, also of grey.
    pub(super) fn decode(&self, colours: Colours) -> Option<Vec<u8>> {
        let most = self.components[0].blocks;
        let units = [
            self.size.width_px.div_ceil(BLOCK_PX * most[0]),
            self.size.height_px.div_ceil(BLOCK_PX * most[1]),
        ];
        let mut scan = Scan::of(self, units)?;
        let of_component = |component| Plane::of(component, self.size, most, units);
        let mut planes: Vec<Plane> = self.components.iter().map(of_component).collect();
        let channels = if colours == Colours::Converted { 3 } else { planes.len() };
        let mut picture = vec![0; channels * self.size.area_px()];
        let mut rows = picture.chunks_exact_mut(channels * self.size.width_px).enumerate();
        for unit in 0..units[1] {
            scan.next_row(unit, &mut planes)?;
            // The last row of halved colour needs the first one below, unless there is none.
            let is_last = unit + 1 == units[1];
            let ready = if is_last { self.size.height_px } else { (unit + 1) * most[1] * BLOCK_PX - 1 };
            let done = (unit * most[1] * BLOCK_PX).saturating_sub(1);
            for (y, row) in rows.by_ref().take(ready - done) {
                planes.iter_mut().for_each(|plane| plane.go_to(y));
                draw(row, &planes, self.size.width_px, colours);
            }
        }
        scan.bits.rest()?.starts_with(&[0xff, 0xd9]).then_some(picture)
    }

    /// Steps and codes of each component.
    fn tables(&self) -> Option<Vec<Tables<'_>>> {
        let of = |component: &Component| {
            let codes = |kind: usize| self.codes[kind].get(component.codes[kind])?.as_ref();
            Some((self.quantisations.get(component.quantisation)?.as_ref()?, (codes(0)?, codes(1)?)))
        };
        self.components.iter().map(of).collect()
    }
}

/// A row of the picture, off the planes' rows.
fn draw(row: &mut [u8], planes: &[Plane], width_px: usize, colours: Colours) {
    let samples = |index: usize| &planes[index].samples()[..width_px];
    match (planes.len(), colours) {
        (1, Colours::AsTheyAre) => row.copy_from_slice(samples(0)),
        (1, Colours::Converted) => {
            row.as_chunks_mut().0.iter_mut().zip(samples(0)).for_each(|(pixel, grey)| *pixel = [*grey; 3]);
        }
        (_, Colours::Converted) => rgb_of_ycbcr(samples(0), samples(1), samples(2), row),
        (_, Colours::AsTheyAre) => {
            let each = samples(0).iter().zip(samples(1)).zip(samples(2));
            let pixels = row.as_chunks_mut().0.iter_mut();
            pixels.zip(each).for_each(|(pixel, ((a, b), c))| *pixel = [*a, *b, *c]);
        }
    }
}

/// Steps of a component, codes of its first coefficients, and of the others.
type Tables<'a> = (&'a [u16; 64], (&'a Codes, &'a Codes));

/// Where a scan has been read to.
struct Scan<'a> {
    stream: &'a Stream<'a>,
    units: [usize; 2],
    tables: Vec<Tables<'a>>,
    bits: Bits<'a>,
    /// The last first coefficient of each component.
    last: [i16; 3],
    restarts: u8,
    /// Coefficients of a row of units of each component.
    blocks: Vec<Vec<Block>>,
}

impl<'a> Scan<'a> {
    fn of(stream: &'a Stream<'a>, units: [usize; 2]) -> Option<Self> {
        let blocks = |component: &Component| {
            let [across, down] = component.blocks;
            vec![[0; 64]; units[0] * across * down]
        };
        Some(Self {
            stream,
            units,
            tables: stream.tables()?,
            bits: Bits::new(stream.scan),
            last: [0; 3],
            restarts: 0,
            blocks: stream.components.iter().map(blocks).collect(),
        })
    }

    /// Decodes the next row of units into the planes.
    fn next_row(&mut self, row: usize, planes: &mut [Plane]) -> Option<()> {
        self.blocks.iter_mut().for_each(|blocks| blocks.fill([0; 64]));
        for column in 0..self.units[0] {
            let unit = row * self.units[0] + column;
            if self.stream.restart > 0 && unit > 0 && unit.is_multiple_of(self.stream.restart) {
                self.begin_anew()?;
            }
            for (index, component) in self.stream.components.iter().enumerate() {
                let [across, down] = component.blocks;
                for y in 0..down {
                    let start = (y * self.units[0] + column) * across;
                    for block in &mut self.blocks[index][start..start + across] {
                        read_block(&mut self.bits, self.tables[index].1, &mut self.last[index], block)?;
                    }
                }
            }
        }
        for ((plane, blocks), (steps, _)) in planes.iter_mut().zip(&self.blocks).zip(&self.tables) {
            plane.push(blocks, steps);
        }
        // A stream that is cut off costs a row of zeros, not a picture.
        (!self.bits.is_over()).then_some(())
    }

    /// Passes over a restart marker.
    fn begin_anew(&mut self) -> Option<()> {
        let behind = self.bits.rest()?.strip_prefix(&[0xff, 0xd0 + self.restarts])?;
        self.bits = Bits::new(behind);
        self.last = [0; 3];
        self.restarts = (self.restarts + 1) % 8;
        Some(())
    }
}

impl Plane {
    fn of(component: &Component, picture: Size, most: [usize; 2], units: [usize; 2]) -> Self {
        let [across, down] = component.blocks;
        let stride_px = units[0] * across * BLOCK_PX;
        let size = Size::new(
            (picture.width_px * across).div_ceil(most[0]),
            (picture.height_px * down).div_ceil(most[1]),
        );
        let is_halved = [across < most[0], down < most[1]];
        let unit_px = down * BLOCK_PX;
        Self {
            size,
            is_halved,
            stride_px,
            unit_px,
            units: 0,
            kept: vec![0; 2 * stride_px * unit_px],
            made: vec![0; size.width_px * if is_halved[0] { 2 } else { 1 }],
            sums: Vec::new(),
            y: 0,
        }
    }

    /// Lets go of the row of units before the last one, and adds the next.
    fn push(&mut self, blocks: &[Block], steps: &[u16; 64]) {
        let half = self.kept.len() / 2;
        self.kept.copy_within(half.., 0);
        self.units += 1;
        let lines = blocks.chunks_exact(self.stride_px / BLOCK_PX);
        for (rows, line) in self.kept[half..].chunks_exact_mut(BLOCK_PX * self.stride_px).zip(lines) {
            inverse_transform(line, steps, rows, self.stride_px);
        }
    }

    /// A row's samples; beyond the picture those of its first or last row.
    fn row(&self, y: isize) -> &[u8] {
        let y = y.clamp(0, self.size.height_px as isize - 1) as usize;
        // Two rows of units are kept, the last one behind.
        let at = y + 2 * self.unit_px - self.units * self.unit_px;
        &self.kept[at * self.stride_px..][..self.size.width_px]
    }

    /// Makes the row of the picture: as wide as it, and between two rows where there are half as many.
    fn go_to(&mut self, y: usize) {
        self.y = y;
        let (row, is_upper) = ((y / 2) as isize, y.is_multiple_of(2));
        let mut made = std::mem::take(&mut self.made);
        let mut sums = std::mem::take(&mut self.sums);
        let far = if is_upper { row - 1 } else { row + 1 };
        match self.is_halved {
            [false, false] => {}
            [true, false] => double_columns(self.row(y as isize), &mut made),
            [false, true] => between_rows(self.row(row), self.row(far), is_upper, &mut made),
            [true, true] => double_both(self.row(row), self.row(far), &mut sums, &mut made),
        }
        (self.made, self.sums) = (made, sums);
    }

    /// The row that was made.
    fn samples(&self) -> &[u8] {
        if self.is_halved == [false; 2] { self.row(self.y as isize) } else { &self.made }
    }
}
