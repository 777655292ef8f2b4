//! Memory aligned to [`ALIGNMENT`] bytes, with views as slices of numbers.
//!
//! Every buffer that compiled code touches is aligned to a cache line, which is also the widest
//! vector, so that generated code may use aligned vector moves at the buffer's start.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

/// Alignment of every [`AlignedBuffer`], in bytes.
pub const ALIGNMENT: usize = 64;

/// Buffers of at least this size, in bytes, are pages of the system's, aligned to it, so that it may back
/// them by huge ones.
pub const HUGE_PAGE: usize = 2 << 20;

/// The smallest page on x86-64.
const PAGE: usize = 4 << 10;

mod sealed {
    pub trait Sealed {}
}

/// A number that a buffer may be viewed as: any bit pattern is a value, and there is no padding.
pub trait Element: sealed::Sealed + Copy + 'static {}

macro_rules! elements {
    ($($number:ty),*) => { $(
        impl sealed::Sealed for $number {}
        impl Element for $number {}
    )* };
}
elements!(f32, f64, i8, u8, i16, u16, i32, u32, i64, u64);

/// A fixed number of bytes aligned to [`ALIGNMENT`]: zeros at first, unless they are [of another
/// buffer](AlignedBuffer::from_spare).
pub struct AlignedBuffer {
    start: NonNull<u8>,
    bytes: usize,
    align: usize,
}

// SAFETY: the buffer owns its memory alone, as `Box<[u8]>` does.
unsafe impl Send for AlignedBuffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// `bytes` bytes of zeros. Ends the process when there is no memory, as `Vec` does.
    pub fn zeroed(bytes: usize) -> Self {
        Self::with_alignment(bytes, ALIGNMENT)
    }

    /// As [`Self::zeroed`], aligned to `align` or more.
    ///
    /// # Panics
    /// If `align` is no power of two or `bytes` is near the size of the address space.
    pub fn with_alignment(bytes: usize, align: usize) -> Self {
        let huge = if bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGNMENT };
        let align = align.max(huge);
        let layout = Self::layout(bytes, align);
        if bytes == 0 {
            let start = std::ptr::without_provenance_mut(align);
            let start = NonNull::new(start).expect("an alignment is not zero");
            return Self { start, bytes, align };
        }
        let start = if bytes >= HUGE_PAGE {
            map_pages(bytes, align)
        } else {
            // SAFETY: the layout's size is not zero.
            NonNull::new(unsafe { alloc_zeroed(layout) })
        };
        let Some(start) = start else { handle_alloc_error(layout) };
        Self { start, bytes, align }
    }

    /// Whether the system gives a buffer of so many bytes. Small ones, which are no pages of their own, are not asked for.
    pub fn is_given(bytes: usize) -> bool {
        if bytes < HUGE_PAGE {
            return true;
        }
        let start = map_pages(bytes, HUGE_PAGE);
        start.map(|start| Self { start, bytes, align: HUGE_PAGE }).is_some()
    }

    /// A buffer that holds `values`.
    pub fn from_slice<T: Element>(values: &[T]) -> Self {
        let mut buffer = Self::zeroed(size_of_val(values));
        buffer.as_mut_slice::<T>().copy_from_slice(values);
        buffer
    }

    /// A buffer that holds anything, in memory of another one as far as pages can go over: fresh memory is cleared by
    /// the system first.
    pub fn from_spare(spare: Self, bytes: usize) -> Self {
        if spare.bytes == bytes {
            return spare;
        }
        let buffer = Self::zeroed(bytes);
        let both = spare.bytes.min(bytes);
        let whole = both - both % HUGE_PAGE;
        if whole > 0 {
            // SAFETY: both are of a huge page or more, so they are mappings of their own that begin at one, and have so
            // many whole ones; both are ours alone.
            unsafe { move_pages(spare.start.as_ptr(), buffer.start.as_ptr(), whole) };
        }
        buffer
    }

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).expect("a buffer's size fits the address space")
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        self.as_slice()
    }

    /// All bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }

    /// The bytes as numbers; a rest that is too short for one number is left out.
    pub fn as_slice<T: Element>(&self) -> &[T] {
        let count = self.bytes / size_of::<T>();
        // SAFETY: `start` is aligned to 64 bytes, more than any `Element` asks for; the memory is
        // initialised, ours for the life of `&self`, at least `count` elements long, and any bit
        // pattern is a valid `Element`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<T>(), count) }
    }

    /// As [`Self::as_slice`], to be changed.
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        let count = self.bytes / size_of::<T>();
        // SAFETY: as in `as_slice`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast::<T>(), count) }
    }
}

/// Fresh pages of the system for a large buffer: zeros that take memory only when they are touched. The alignment is a
/// multiple of a page.
fn map_pages(bytes: usize, align: usize) -> Option<NonNull<u8>> {
    let size = bytes.checked_next_multiple_of(PAGE)?;
    let total = size.checked_add(align)?;
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping anywhere touches nothing that there is.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), total, access, kind, -1, 0) };
    if base == libc::MAP_FAILED {
        return None;
    }
    let base = base.cast::<u8>();
    let before = base.align_offset(align);
    // SAFETY: the mapping has `align` bytes more than are kept, so what is kept lies in it, and so do the whole pages
    // before and behind that, which nobody has seen.
    let start = unsafe {
        unmap(base, before);
        unmap(base.add(before + size), align - before);
        base.add(before)
    };
    let start = NonNull::new(start)?;
    advise_huge_pages(start, bytes);
    Some(start)
}

/// Gives pages back to the system, if there are any.
///
/// # Safety
/// They are whole pages of a mapping of ours, and nobody uses them any more.
unsafe fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: as the caller says. It can only fail for a range that is none of pages.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}

/// Gives the memory of the whole pages within a range back to the system. What they hold is lost; they stay mapped, and
/// take memory again when they are touched.
pub(crate) fn give_back(bytes: &mut [u8]) {
    let start = bytes.as_mut_ptr();
    let before = start.align_offset(PAGE);
    let whole = bytes.len().saturating_sub(before) / PAGE * PAGE;
    if whole > 0 {
        // SAFETY: the pages lie within the range, which is ours alone while this runs. It is private memory, so what is
        // read of it next is initialised: zeros, or what the file has that it is a mapping of.
        unsafe { libc::madvise(start.add(before).cast(), whole, libc::MADV_DONTNEED) };
    }
}

/// Puts huge pages in the place of others, whose memory goes back to the system. The range that they leave stays
/// mapped, and holds zeros. Where the system cannot, they stay where they are. Ends the process when there is no memory
/// for it.
///
/// # Safety
/// Both are whole huge pages of mappings that [`map_pages`] made, as many, do not overlap, and nobody else touches them
/// while this runs.
pub(crate) unsafe fn move_pages(from: *mut u8, to: *mut u8, bytes: usize) {
    // One by one: pages that were moved before are mappings of their own, and the system may not move two at once.
    for at in (0..bytes).step_by(HUGE_PAGE) {
        // SAFETY: as the caller says, of one page of them.
        if !unsafe { move_page(from.add(at), to.add(at)) } {
            return;
        }
    }
}

/// Moves one of [`move_pages`]; gives whether the system can.
///
/// # Safety
/// As there.
unsafe fn move_page(from: *mut u8, to: *mut u8) -> bool {
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: both ranges are ours, and what the second one holds is not needed. They stay mapped, readable and
    // writable, private and anonymous, so all that is read of them is initialised.
    let moved = unsafe { libc::mremap(from.cast(), HUGE_PAGE, HUGE_PAGE, how, to) };
    if moved != libc::MAP_FAILED {
        return true;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        // It does not know the call, or how it is to be done, and looked at nothing else.
        Some(libc::EINVAL | libc::ENOSYS | libc::EPERM) => false,
        // The second range may be unmapped by now, and another thread may have got it.
        _ => handle_alloc_error(AlignedBuffer::layout(HUGE_PAGE, HUGE_PAGE)),
    }
}

/// Asks the system to back the whole huge pages of a large buffer by such; it may refuse. Must come
/// before the memory is touched.
fn advise_huge_pages(start: NonNull<u8>, bytes: usize) {
    let whole = bytes - bytes % HUGE_PAGE;
    if whole > 0 {
        // SAFETY: the range is ours and, being as aligned as it is long, made of whole pages; the
        // advice does not change what it holds.
        unsafe { libc::madvise(start.as_ptr().cast(), whole, libc::MADV_HUGEPAGE) };
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if self.bytes != 0 {
            let start = self.start.as_ptr();
            if self.bytes >= HUGE_PAGE {
                // SAFETY: mapped in `with_alignment`, whole pages from there, and given back only here.
                unsafe { unmap(start, self.bytes.next_multiple_of(PAGE)) };
            } else {
                // SAFETY: allocated in `with_alignment` with this very layout, and freed only here.
                unsafe { dealloc(start, Self::layout(self.bytes, self.align)) };
            }
        }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> Self {
        let mut copy = Self::with_alignment(self.bytes, self.align);
        copy.bytes_mut().copy_from_slice(self.bytes());
        copy
    }
}

impl Default for AlignedBuffer {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl PartialEq for AlignedBuffer {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for AlignedBuffer {}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_and_aligned() {
        for bytes in [0, 1, 63, 64, 1000, 3 << 20] {
            let buffer = AlignedBuffer::zeroed(bytes);
            assert_eq!(buffer.len(), bytes);
            assert_eq!(buffer.bytes().as_ptr().addr() % ALIGNMENT, 0);
            assert!(buffer.bytes().iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn views_share_the_bytes() {
        let mut buffer = AlignedBuffer::from_slice(&[1.0f32, -2.0]);
        assert_eq!(buffer.as_slice::<u32>(), [0x3f80_0000, 0xc000_0000]);
        buffer.as_mut_slice::<f32>()[1] = 0.5;
        assert_eq!(buffer.as_slice::<f32>(), [1.0, 0.5]);
        assert_eq!(buffer.clone(), buffer);
    }

    #[test]
    fn whole_pages_are_given_back_and_no_byte_beside_them() {
        let mut buffer = AlignedBuffer::zeroed(HUGE_PAGE);
        buffer.bytes_mut().fill(1);
        give_back(&mut buffer.bytes_mut()[64..3 * PAGE + 64]);
        let is_left = |at: usize| buffer.bytes()[at] == 1;
        assert!((0..PAGE).all(is_left) && (3 * PAGE..HUGE_PAGE).all(is_left));
        assert!(!(PAGE..3 * PAGE).any(is_left));
        give_back(&mut buffer.bytes_mut()[64..PAGE]);
        assert!(buffer.bytes()[64..PAGE].iter().all(|&byte| byte == 1), "there is no whole page");
        give_back(&mut []);
    }

    #[test]
    fn pages_change_their_place_and_leave_zeros() {
        let (mut from, mut to) = (AlignedBuffer::zeroed(3 * HUGE_PAGE + 64), AlignedBuffer::zeroed(2 * HUGE_PAGE));
        from.bytes_mut().chunks_mut(HUGE_PAGE).zip(1..).for_each(|(page, number)| page.fill(number));
        to.bytes_mut().fill(9);
        let (start, end) = (from.bytes_mut().as_mut_ptr(), to.bytes_mut().as_mut_ptr());
        for (page, place) in [(2, 0), (0, 1)] {
            // SAFETY: both are huge pages of buffers that are larger, and nobody else has them.
            unsafe { move_pages(start.add(page * HUGE_PAGE), end.add(place * HUGE_PAGE), HUGE_PAGE) };
        }
        let numbers = |buffer: &AlignedBuffer| -> Vec<u8> {
            let pages = buffer.bytes().chunks(HUGE_PAGE);
            let number = |page: &[u8]| page.iter().all(|&byte| byte == page[0]).then_some(page[0]);
            pages.filter_map(number).collect()
        };
        assert_eq!(numbers(&from), [0, 2, 0, 4]);
        assert_eq!(numbers(&to), [3, 1]);
        from.bytes_mut().fill(5);
        assert_eq!(numbers(&to), [3, 1], "they share nothing");
    }

    #[test]
    fn a_spare_buffer_lends_its_memory() {
        let spare = |bytes: usize| {
            let mut buffer = AlignedBuffer::zeroed(bytes);
            buffer.bytes_mut().fill(7);
            buffer
        };
        let count = |buffer: AlignedBuffer| buffer.bytes().iter().filter(|&&byte| byte == 7).count();
        // Of several mappings by then.
        let patched = AlignedBuffer::from_spare(spare(HUGE_PAGE), 3 * HUGE_PAGE);
        assert_eq!(count(AlignedBuffer::from_spare(patched, 2 * HUGE_PAGE)), HUGE_PAGE);
        assert_eq!(count(AlignedBuffer::from_spare(spare(100), 100)), 100);
        assert_eq!(count(AlignedBuffer::from_spare(spare(100), 64)), 0);
        for (from, to, moved) in [(3, 2, 2), (2, 3, 2)] {
            let buffer = AlignedBuffer::from_spare(spare(from * HUGE_PAGE + 64), to * HUGE_PAGE + 64);
            assert_eq!((buffer.len(), count(buffer)), (to * HUGE_PAGE + 64, moved * HUGE_PAGE));
        }
    }

    #[test]
    fn a_short_rest_is_left_out() {
        let buffer = AlignedBuffer::zeroed(7);
        assert_eq!(buffer.as_slice::<f32>().len(), 1);
        assert_eq!(buffer.as_slice::<u8>().len(), 7);
    }
}
