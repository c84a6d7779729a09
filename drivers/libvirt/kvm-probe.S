/*
 * The guest of kvm-probe.ts, which holds its bytes. It goes where every operating system goes: from real mode through
 * protected to long mode, with an interrupt taken and returned from in both, then ends QEMU through isa-debug-exit.
 * A KVM that only emulates part of this runs boot loaders or kernels into an "internal error".
 *
 * as --64 kvm-probe.S -o probe.o && ld -Ttext 0x7c00 --oformat binary probe.o -o probe.bin
 */
.code16
.globl _start
_start:
  cli
  xorw %ax, %ax
  movw %ax, %ds
  movw %ax, %ss
  movw $0x7c00, %sp
  lgdtl gdtr
  movl %cr0, %eax
  orb $1, %al
  movl %eax, %cr0
  ljmpl $0x08, $protected
.code32
protected:
  movw $0x10, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl $0x7c00, %esp
  /* interrupt 0x30 through the 8-byte gate at 0x1180 */
  movl $(0x080000 + handler32 - _start + 0x7c00), 0x1180
  movl $0x00008e00, 0x1184
  lidtl idtr
  int $0x30
  /* 4-level paging: the first 2 MiB mapped to themselves */
  movl $0x2000, %edi
  movl %edi, %cr3
  xorl %eax, %eax
  movl $0xc00, %ecx
  rep stosl
  movl $0x3003, 0x2000
  movl $0x4003, 0x3000
  movl $0x0083, 0x4000
  movl %cr4, %eax
  orb $0x20, %al
  movl %eax, %cr4
  movl $0xc0000080, %ecx
  rdmsr
  orb $1, %ah
  wrmsr
  movl %cr0, %eax
  orl $0x80000000, %eax
  movl %eax, %cr0
  ljmpl $0x18, $long
handler32:
  iretl
.code64
long:
  /* interrupt 0x30 through the 16-byte gate at 0x1300 */
  movl $(0x180000 + handler64 - _start + 0x7c00), 0x1300
  movl $0x00008e00, 0x1304
  movl $0, 0x1308
  lidtq idtr
  int $0x30
  movb $0x31, %al
  outb %al, $0xf4
1: hlt
  jmp 1b
handler64:
  iretq
.balign 8
gdt:
  .quad 0
  .quad 0x00cf9a000000ffff
  .quad 0x00cf92000000ffff
  .quad 0x00af9a000000ffff
gdtr:
  .word 31
  .long gdt
  .long 0
idtr:
  .word 0xfff
  .quad 0x1000
.org 510
.word 0xaa55
