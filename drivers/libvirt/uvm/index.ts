/** The part of the libvirt driver that makes and restores µVMs. */
export { LibvirtUvmEngine, type UvmSettings } from './engine';
