/** Images whose owners' signatures are verified before anything is made of them. */
export { SignedImages, type SignatureOptions, type SignedImagesParts } from './signed-images';
